"""Kernels that machines boot: Debian's, or one the user names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from mizzen.host.cache import keep, workshop
from mizzen.host.files import explained, replacing, sha256
from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.image import Kernel
from mizzen.model.progress import Progress, Report

from . import apt
from .kernel_file import KernelFile, recognise
from .modules import needed

METAPACKAGE = "linux-image-cloud-amd64"
LARGEST = 1 << 30
"""Bytes; a file beyond that is no kernel, and is not read."""


async def debian_kernel(folders: Folders, report: Report, suite: str | None = None) -> Kernel:
    """Return the kernel of a Debian suite (None: this host's), fetching it the first time.

    The package is downloaded, verified and unpacked, never installed. What was fetched once
    is used from then on without looking for a newer one: machines do not change kernels
    because a mirror did. Deleting ``kernels/SUITE.json`` below the cache makes the next call
    fetch the newest.

    Raises Failure if the suite's mirror cannot be reached or there is no disk space.
    """
    suite = apt.check_suite(suite or apt.this_suite())
    folder = folders.cache / "kernels"
    record = folder / f"{suite}.json"
    if found := _recall(record):
        return found
    what = f"cannot fetch the kernel of Debian {suite}"
    async with workshop(folder, what) as place:
        if found := _recall(record):  # somebody else made it meanwhile
            return found
        async with apt.archive(folders, report, suite) as archive:
            debians = []
            for package in await _packages(archive):
                (place / package).mkdir()
                debians.append(await apt.download(archive, package, place / package, report))
        task = f"unpacking Debian {suite}'s kernel"
        report(Progress(task))
        for debian in debians:
            await run("dpkg-deb", "-x", debian, place / "root", what=what)
        kernel = _arrange(place / "root", place / "kernel", what)
        kernel = _at(kernel, keep(place / "kernel", folder / kernel.digest))
        with replacing(record) as temporary:
            temporary.write_bytes(msgspec.json.encode(kernel, enc_hook=str))
        report(Progress(task, finished=True))
    return kernel


def user_kernel(path: Path, modules: Path | None = None) -> Kernel:
    """Return the kernel in a file that the user named.

    path: a bzImage or an ELF vmlinux. modules: its ``lib/modules/RELEASE`` folder; None if all
    that a guest needs is built in.
    Raises Failure if the file is no kernel, saying what it is, or a needed module is missing.
    """
    what = f"cannot boot {path}"
    fix = "name a bzImage (vmlinuz) or an ELF vmlinux for x86-64"
    with explained(what):
        if path.is_dir():
            raise Failure(what, "it is a folder", fix)
        if not path.is_file():
            raise Failure(what, "there is no such file", fix)
        if path.stat().st_size > LARGEST:
            raise Failure(what, "it is too large to be a kernel", fix)
        found = recognise(path.read_bytes())
        if not isinstance(found, KernelFile):
            raise Failure(what, f"it is {found.kind}", fix)
        if modules is not None and not modules.is_dir():
            raise Failure(what, f"its modules folder {modules} does not exist", "name another")
        path = path.absolute()
        modules = modules.absolute() if modules else None
        return Kernel(path, found.release, modules, digest(path, modules))


def digest(path: Path, modules: Path | None) -> str:
    """Return the SHA-256 over a kernel and the modules that guests load, in their order."""
    total = hashlib.sha256(f"{sha256(path)}\n".encode())
    for module in needed(modules) if modules else ():
        total.update(f"{module.name} {sha256(module.path)}\n".encode())
    return total.hexdigest()


def _recall(record: Path) -> Kernel | None:
    try:
        kernel = msgspec.json.decode(record.read_bytes(), type=Kernel, dec_hook=_decode)
    except (OSError, msgspec.MsgspecError):
        return None
    return kernel if kernel.path.is_file() else None


def _decode(kind: type, value: object) -> object:
    return kind(value)


async def _packages(archive: apt.Archive) -> list[str]:
    """Follow the metapackage to what holds the kernel and its modules.

    That is one package; since Linux 7.2 it depends on those that hold the parts.
    """
    depends = await apt.field(archive, METAPACKAGE, "Depends")
    found = re.search(r"\blinux-image-\d[^\s,]*", depends)
    if found is None:
        raise Failure(
            f"cannot fetch the kernel of Debian {archive.suite}",
            f"{METAPACKAGE} names no kernel ({depends or 'no Depends'})",
            "name a kernel's file instead",
        )
    parts = await apt.field(archive, found[0], "Depends")
    return re.findall(r"\blinux-(?:base|binary|modules)-\d[^\s,]*", parts) or [found[0]]


def _arrange(root: Path, into: Path, what: str) -> Kernel:
    """Gather what matters of unpacked packages.

    Debian moved modules to /usr in trixie, and the kernel beside them with Linux 7.2.
    """
    trees = [*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*")]
    images = [
        *root.glob("boot/vmlinuz-*"),
        *(path for tree in trees for path in tree.glob("vmlinuz")),
    ]
    if len(images) != 1 or len(trees) != 1:
        raise Failure(what, "its package holds no single kernel", "name a kernel's file instead")
    into.mkdir()
    images[0].rename(into / "vmlinuz")
    trees[0].rename(into / "modules")
    return user_kernel(into / "vmlinuz", into / "modules")


def _at(kernel: Kernel, folder: Path) -> Kernel:
    return Kernel(folder / "vmlinuz", kernel.release, folder / "modules", kernel.digest)
