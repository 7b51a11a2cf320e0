"""A folder with a Dockerfile, or an OCI image, becomes what a machine boots.

What was made of a folder is remembered under a digest of its content and of the images it
builds on, what was made of an OCI image under its id, so nothing is done twice.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mizzen.host import trees
from mizzen.host.cache import closed, keep, workshop
from mizzen.host.files import explained, replacing, sha256
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.image import Image, Kernel, ProcessConfig
from mizzen.model.progress import Progress, Report

from . import base, dockerfile, initramfs, oci, rootfs
from .buildah import Buildah, here
from .kernel import debian_kernel

FORMAT = "1"
"""Changes when equal inputs begin to give other root file systems."""


@dataclass(frozen=True, slots=True)
class Root:
    """An OCI image as a file system. digest: sha256 of the file, which is its name too."""

    digest: str
    process: ProcessConfig


async def build(
    source: str | Path, *, kernel: Kernel | None = None, folders: Folders, report: Report
) -> Image:
    """Return what a machine boots for a source.

    source: a folder that has a Dockerfile, or an OCI reference; a string that begins with "/" or
        "." or names a folder is a folder.
    kernel: what to boot; None takes this host's Debian kernel.
    Raises Failure, in one line, whatever prevents it; nothing half-made is left behind.
    """
    kernel = kernel or await debian_kernel(folders, report)
    buildah = await here(folders)
    folder = as_folder(source)
    if folder is None:
        identity = await resolve(buildah, str(source), folders, report)
    else:
        identity = await build_folder(buildah, folder, folders, report)
    root = await _root(buildah, identity, str(source), folders, report)
    initial = await initramfs.build(folders, kernel)
    total = hashlib.sha256()
    for part in (kernel.digest, initial.name, root.digest):
        total.update(f"{part}\n".encode())
    total.update(msgspec.json.encode(root.process))
    return Image(
        reference=str(folder or source),
        kernel=kernel,
        initramfs=initial,
        root=_place(folders, root),
        process=root.process,
        digest=total.hexdigest(),
    )


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


async def build_folder(buildah: Buildah, folder: Path, folders: Folders, report: Report) -> str:
    """Return the id of a folder's image, built unless nothing has changed since it was."""
    what = f"cannot build {folder}"
    with explained(what):
        text = dockerfile.find(folder).read_text(errors="replace")
        context = trees.digest(folder)
    images = dockerfile.bases(text)
    present = await oci.names(buildah)
    for reference in images:
        if (made := base.made_here(reference)) and f"{made}:latest" not in present:
            await base.ensure(buildah, folders, made, report)
            present = await oci.names(buildah)
    used = [f"{name} {present.get(oci.full_name(name), '')}" for name in images]
    key = hashlib.sha256("\n".join([FORMAT, context, *used]).encode()).hexdigest()
    record = folders.cache / "builds" / key
    if record.is_file():
        known = record.read_text().strip()
        if known in present.values() or _recall(folders, known):
            return known
    async with workshop(record.parent, what) as place:
        tag = f"localhost/mizzen/functions/{_tag(folder.name)}"
        identity = await oci.build(buildah, folder, tag, place / "id", report)
        _remember(record, identity.encode())
    return identity


async def _root(
    buildah: Buildah, identity: str, source: str, folders: Folders, report: Report
) -> Root:
    """Return an image's file system, made the first time."""
    if known := _recall(folders, identity):
        return known
    what = f"cannot make a root file system of {source}"
    async with workshop(folders.cache / "roots", what) as place:
        if known := _recall(folders, identity):  # somebody else made it meanwhile
            return known
        _, config = await oci.inspect(buildah, identity, what)
        process = oci.process_config(config, what)
        task = f"making the root file system of {source}"
        report(Progress(task, 0, 2))
        file = place / "root.erofs"
        async with oci.exported(buildah, identity, place, what) as folder:
            report(Progress(task, 1, 2))
            await rootfs.build(folder, file, inside=buildah.inside, what=what)
        root = Root(sha256(file), process)
        keep(file, _place(folders, root))
        _remember(_record(folders, identity), msgspec.json.encode(root))
        report(Progress(task, 2, 2, finished=True))
    return root


def _recall(folders: Folders, identity: str) -> Root | None:
    try:
        root = msgspec.json.decode(_record(folders, identity).read_bytes(), type=Root)
    except (OSError, msgspec.MsgspecError):
        return None
    return root if _place(folders, root).is_file() else None


def _remember(record: Path, content: bytes) -> None:
    with replacing(record) as temporary:
        temporary.write_bytes(content)


def _record(folders: Folders, identity: str) -> Path:
    return folders.cache / "images" / f"{FORMAT}-{identity}.json"


def _place(folders: Folders, root: Root) -> Path:
    return folders.cache / "roots" / root.digest


def _tag(name: str) -> str:
    """Return a folder's name as a part of an image's name may be spelled."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


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
