"""A folder with a Dockerfile, or an OCI image, becomes what a machine boots.

``recipe`` and ``oci`` bring an OCI image into buildah's storage, ``roots`` makes a file system of
it; a kernel and an initramfs come with it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from mizzen.host.cache import closed, keep, workshop
from mizzen.host.files import turn
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.image import Image, Kernel
from mizzen.model.progress import Progress, Report

from . import base, initramfs, oci, recipe, roots
from .buildah import Buildah, here
from .kernel import debian_kernel
from .recipe import Log, Recipe, unheard


async def build(
    source: str | Path, *, kernel: Kernel | None = None, folders: Folders, report: Report
) -> Image:
    """Return what a machine boots for a source.

    source: a folder that has a Dockerfile, or an OCI reference; a string that begins with "/" or
        "." or names a folder is a folder.
    kernel: what to boot; None takes this host's Debian kernel.
    Raises Failure, in one line, whatever prevents it; nothing half-made is left behind.
    """
    folder = as_folder(source)
    if folder is not None:
        made = Recipe(str(folder), folder)
        return await of_recipe(made, kernel=kernel, folders=folders, report=report)
    buildah = await here(folders)
    async with turn(oci.lock(folders), shared=True):
        identity = await resolve(buildah, str(source), folders, report)
        return await _bootable(identity, str(source), kernel, folders, report)


async def of_recipe(
    made: Recipe,
    *,
    kernel: Kernel | None = None,
    folders: Folders,
    report: Report,
    log: Log = unheard,
) -> Image:
    """Return what a machine boots for a recipe. Raises as ``build`` and ``recipe.make`` do.

    log: told each line that the build writes.
    """
    buildah = await here(folders)
    async with turn(oci.lock(folders), shared=True):
        identity = await recipe.make(buildah, made, folders, report, log)
        return await _bootable(identity, made.title, kernel, folders, report)


async def pulled(
    reference: str, *, kernel: Kernel | None = None, folders: Folders, report: Report
) -> Image:
    """Return what a machine boots for what a registry has under a name at present.

    A name that no registry has, or that says which content it means, is looked for here first.
    Raises as ``build`` and ``oci.pull`` do.
    """
    buildah = await here(folders)
    async with turn(oci.lock(folders), shared=True):
        if oci.local(reference) or "@" in reference:
            identity = await resolve(buildah, reference, folders, report)
        else:
            identity = await oci.pull(buildah, reference, report)
        return await _bootable(identity, reference, kernel, folders, report)


async def _bootable(
    identity: str, title: str, kernel: Kernel | None, folders: Folders, report: Report
) -> Image:
    kernel = kernel or await debian_kernel(folders, report)
    root = await roots.make(await here(folders), identity, title, folders, report)
    initial = await initramfs.build(folders, kernel)
    total = hashlib.sha256()
    for part in (kernel.digest, initial.name, root.digest):
        total.update(f"{part}\n".encode())
    total.update(msgspec.json.encode(root.process))
    return Image(
        reference=title,
        kernel=kernel,
        initramfs=initial,
        root=roots.place(folders, root),
        process=root.process,
        digest=total.hexdigest(),
    )


def is_there(image: Image) -> bool:
    """Whether all that a machine boots of an image is where it was put."""
    files = (image.kernel.path, image.initramfs, image.root)
    return all(path.is_file() for path in files if path is not None)


def as_folder(source: str | Path) -> Path | None:
    """Return the folder that a source names, None if it is an OCI reference."""
    path = Path(source)
    if path.is_dir():
        return path.resolve()
    if isinstance(source, Path) or source.startswith(("/", ".")):
        why = "it is no folder" if path.exists() else "there is no such folder"
        raise Failure(f"cannot build {source}", why, "name a folder that has a Dockerfile")
    return None


async def resolve(buildah: Buildah, reference: str, folders: Folders, report: Report) -> str:
    """Return the id of an OCI image, made or pulled where it must be."""
    if made := base.made_here(reference):
        await base.ensure(buildah, folders, made, report)
    return await oci.fetch(buildah, reference, report)


async def tools_folder(reference: str, folders: Folders, report: Report) -> Path:
    """Return a folder with the root file system of an OCI image, for reading only.

    It is made once for each image and stays below the cache.
    """
    what = f"cannot take the files out of image {reference}"
    buildah = await here(folders)
    identity = await resolve(buildah, reference, folders, report)
    place = folders.cache / "tools" / identity
    if place.is_dir():
        return place
    async with workshop(closed(place.parent), what) as temporary:
        task = f"taking the files out of {reference}"
        report(Progress(task))
        # Without root the files become the user's own, which is all a reader needs.
        copy = "cp -a" if os.geteuid() == 0 else "cp -r --preserve=mode,timestamps,links"
        await oci.copy_out(buildah, identity, temporary / "root", copy, what)
        keep(temporary / "root", place)
        report(Progress(task, finished=True))
    return place
