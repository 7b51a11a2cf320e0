"""A tarball becomes a folder with a root file system.

It holds either such a file system, or an OCI image as ``skopeo copy`` and ``docker save`` write
it; which one, and how it is compressed, its content tells.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from mizzen.host.paths import Folders
from mizzen.host.process import run, which
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

from . import oci, unpack
from .buildah import Buildah, explain, here

ZSTD = b"\x28\xb5\x2f\xfd"
MANIFEST_MAX = 1 << 20
FIX = "name a folder, an OCI image, or a tar archive of either"


async def root_of(file: Path, place: Path, folders: Folders, what: str, report: Report) -> Path:
    """Return a new folder with an archive's root file system.

    place: an empty temporary folder. Raises Failure for what is no such archive.
    """
    root = place / "root"
    readable = await _plain(file, place, what)
    await extract(readable, root, what, report)
    named = _image(readable, root)
    if named is None:
        _check(root, what)
        return root
    return await _from_image(await here(folders), named, place, what)


async def _plain(file: Path, place: Path, what: str) -> Path:
    """Return an archive as ``unpack`` reads it: itself, or without the zstd that Python lacks."""
    if not _is_zstd(file):
        return file
    made = place / "plain.tar"
    program = which("zstd")
    limit = f"--fsize={unpack.BYTES_MAX}"
    await run("prlimit", limit, program, "-q", "-d", "-o", made, file, what=what)
    return made


def _is_zstd(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(ZSTD)) == ZSTD


async def extract(file: Path, folder: Path, what: str, report: Report) -> None:
    """Unpack an archive into a new folder. Raises Failure for what is none."""
    task = f"unpacking {file.name}"
    total = _begin(file, folder)

    def on_line(line: str) -> None:
        if line.isdecimal():
            report(Progress(task, int(line), total))

    def told(stderr: str) -> tuple[str, str]:
        lines = [line for line in stderr.splitlines() if not line.isdecimal()]
        why = lines[-1] if lines else "unpacking it was ended"
        return why, "free some disk space" if "No space left" in why else FIX

    report(Progress(task, 0, total))
    # -P: never import from this folder.
    code = f"import sys; from {unpack.__name__} import main; main(*sys.argv[1:])"
    await run(
        sys.executable, "-P", "-c", code, file, folder,
        what=what, on_line=on_line, explain=told,
    )  # fmt: skip
    report(Progress(task, total, total, finished=True))


def _begin(file: Path, folder: Path) -> int:
    folder.mkdir()
    return file.stat().st_size


def _image(file: Path, folder: Path) -> str | None:
    """Return what buildah calls the image that an unpacked archive is; None if it is no image.

    The name is relative to the folder above, since of a path buildah makes a name, where not all
    characters are good. Source: image-spec, image-layout.md; containers-transports(5).
    """
    if (folder / "oci-layout").is_file() and (folder / "index.json").is_file():
        return f"oci:{folder.name}"
    try:
        with (folder / "manifest.json").open("rb") as opened:
            found = msgspec.json.decode(opened.read(MANIFEST_MAX))
    except (OSError, msgspec.DecodeError):
        return None
    if not (isinstance(found, list) and found and isinstance(found[0], dict)):
        return None
    if "Layers" not in found[0]:
        return None
    link = folder.with_name("archive.tar")
    link.symlink_to(file)
    return f"docker-archive:{link.name}"


async def _from_image(buildah: Buildah, named: str, place: Path, what: str) -> Path:
    """Return a new folder with the files of an image that an archive in a folder is.

    A storage of its own keeps the archive's names from taking the place of other images'.
    """
    storage = place / "storage"
    own = ("--root", str(storage / "root"), "--runroot", str(storage / "run"))
    apart = replace(buildah, options=(*buildah.options, *own))
    try:
        pulled = await run(
            *apart.command, "pull", "--quiet", named,
            what=what, cwd=place, env={"TMPDIR": str(place)}, explain=explain,
        )  # fmt: skip
        # Without root the files become the user's own, which is all a reader needs.
        copy = "cp -a" if os.geteuid() == 0 else "cp -r --preserve=mode,timestamps,links"
        await oci.copy_out(apart, pulled.text.splitlines()[-1], place / "image", copy, what)
    finally:
        await run(*buildah.inside, "rm", "-rf", storage, what=what)
    return place / "image"


def _check(folder: Path, what: str) -> None:
    """Raise Failure if an unpacked archive holds nothing."""
    if not any(folder.iterdir()):
        raise Failure(what, "it holds no files", FIX)
