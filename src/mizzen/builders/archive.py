"""A tarball becomes a folder with a root file system.

It holds either such a file system, or an OCI image as ``skopeo copy`` and ``docker save`` write
it; which one, and how it is compressed, its content tells.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from mizzen.host.paths import Folders
from mizzen.host.process import run, which
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

from . import oci, unpack
from .buildah import Buildah, here

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
    await _from_image(await here(folders), named, place / "image", what)
    return place / "image"


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

    def explain(stderr: str) -> tuple[str, str]:
        lines = [line for line in stderr.splitlines() if not line.isdecimal()]
        why = lines[-1] if lines else "unpacking it was ended"
        return why, "free some disk space" if "No space left" in why else FIX

    report(Progress(task, 0, total))
    # -P: never import from this folder.
    code = f"import sys; from {unpack.__name__} import main; main(*sys.argv[1:])"
    await run(
        sys.executable, "-P", "-c", code, file, folder,
        what=what, on_line=on_line, explain=explain,
    )  # fmt: skip
    report(Progress(task, total, total, finished=True))


def _begin(file: Path, folder: Path) -> int:
    folder.mkdir()
    return file.stat().st_size


def _image(file: Path, folder: Path) -> str | None:
    """Return what buildah calls the image that an unpacked archive is; None if it is no image.

    Source: image-spec, image-layout.md; the docker-archive of containers-transports(5).
    """
    if (folder / "oci-layout").is_file() and (folder / "index.json").is_file():
        return f"oci:{folder}"
    try:
        with (folder / "manifest.json").open("rb") as opened:
            found = msgspec.json.decode(opened.read(MANIFEST_MAX))
    except (OSError, msgspec.DecodeError):
        return None
    is_image = isinstance(found, list) and found and isinstance(found[0], dict)
    return f"docker-archive:{file}" if is_image and "Layers" in found[0] else None


async def _from_image(buildah: Buildah, named: str, into: Path, what: str) -> None:
    """Take the files out of an image that buildah knows by a transport; the image is not kept."""
    before = set((await oci.names(buildah)).values())
    pulled = await buildah("pull", "--quiet", named, what=what, scratch=into.parent)
    identity = pulled.text.splitlines()[-1]
    try:
        # Without root the files become the user's own, which is all a reader needs.
        copy = "cp -a" if os.geteuid() == 0 else "cp -r --preserve=mode,timestamps,links"
        await oci.copy_out(buildah, identity, into, copy, what)
    finally:
        if identity not in before:
            await buildah("rmi", "--force", identity, what=what)


def _check(folder: Path, what: str) -> None:
    """Raise Failure if an unpacked archive holds nothing."""
    if not any(folder.iterdir()):
        raise Failure(what, "it holds no files", FIX)
