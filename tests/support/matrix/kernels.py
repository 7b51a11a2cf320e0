"""The matrix's kernels, by name: Debian's packages, and ones built from Debian's sources."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from mizzen.builders import apt
from mizzen.builders.kernel import debian_kernel
from mizzen.host.cache import keep, workshop
from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.progress import silent

from .sources import VMLINUX, Built, Trees

CLOUD = "linux-image-cloud-amd64"
GENERIC = "linux-image-amd64"
RT = "linux-image-rt-amd64"

WHOLE = ("bookworm", "trixie")
"""Suites whose cloud kernel other tests have too, modules and all."""

SIX_ONE = ("bookworm", "linux-source-6.1")
SIX_TWELVE = ("trixie", "linux-source-6.12")


NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Stock:
    """A kernel package that a suite's metapackage leads to."""

    suite: str
    metapackage: str


STOCK = {
    f"{version} {flavour}": Stock(suite, metapackage)
    for version, suite in (
        ("5.10", "bullseye"),
        ("6.1", "bookworm"),
        ("6.12", "trixie"),
        ("7.2", "forky"),
        ("7.3", "trixie-backports"),
    )
    for flavour, metapackage in (("cloud", CLOUD), ("generic", GENERIC), ("rt", RT))
}

LIKE_FIRECRACKER = ("common", "small", "like-firecracker")

BUILT = {
    "6.12 small": Built(*SIX_TWELVE, ("common", "small")),
    "6.12 no KALLSYMS_ALL": Built(*SIX_TWELVE, ("common", "small", "no-kallsyms-all")),
    "6.12 no DEVTMPFS": Built(*SIX_TWELVE, ("common", "small", "no-devtmpfs")),
    "6.12 no pagemap": Built(*SIX_TWELVE, ("common", "small", "no-pagemap")),
    "6.12 no TMPFS": Built(*SIX_TWELVE, ("common", "small", "no-tmpfs")),
    "6.12 static usermodehelper": Built(*SIX_TWELVE, ("common", "small", "static-usermodehelper")),
    "6.12 no PTI": Built(*SIX_TWELVE, ("common", "small", "no-pti")),
    "6.12 no KALLSYMS": Built(*SIX_TWELVE, ("common", "small", "no-kallsyms")),
    "6.12 no MODULES": Built(*SIX_TWELVE, ("common", "small", "no-modules")),
    "6.12 tiny": Built(*SIX_TWELVE, ("common",)),
    "6.1 like Firecracker's": Built(*SIX_ONE, LIKE_FIRECRACKER),
    "6.1 like Firecracker's, vmlinux": Built(*SIX_ONE, LIKE_FIRECRACKER, image=VMLINUX),
}
"""Built one after the other in one tree: those that differ in little stand together."""

KERNELS: dict[str, Stock | Built] = {**STOCK, **BUILT}


async def fetch(folders: Folders, stock: Stock) -> Path:
    """Return a stock kernel's vmlinuz, downloading its package the first time."""
    if stock.metapackage == CLOUD and stock.suite in WHOLE:
        return (await debian_kernel(folders, silent, stock.suite)).path
    return await _kept(folders, stock.suite, stock.metapackage, "vmlinuz*")


async def firmware(folders: Folders) -> Path:
    """Return UEFI firmware for QEMU's machines."""
    return await _kept(folders, "bookworm", "ovmf", "OVMF.fd")


async def _kept(folders: Folders, suite: str, name: str, pattern: str) -> Path:
    """Return the one file that fits a pattern in a package, or in what a metapackage leads to."""
    kind = folders.cache / "matrix-stock"
    place = kind / f"{suite}-{name}"
    if place.is_file():
        return place
    what = f"cannot fetch {name} of Debian {suite}"
    async with workshop(kind, what) as temporary:
        async with apt.archive(folders, silent, suite) as archive:
            package = await _package(archive, name)
            debian = await _download(archive, package, temporary)
        await run("dpkg-deb", "-x", debian, temporary / "root", what=what)
        found = (temporary / "root").rglob(pattern)
        (file,) = (path for path in found if path.is_file() and not path.is_symlink())
        return keep(file, place)


async def _package(archive: apt.Archive, name: str) -> str:
    """Follow a metapackage to what holds its kernel: since 7.2, linux-image is one as well."""
    for prefix in ("linux-image-", "linux-binary-"):
        depends = (await apt.field(archive, name, "Depends")).replace(",", " ").split()
        name = next((word for word in depends if word.startswith(prefix)), name)
    return name


async def _download(archive: apt.Archive, package: str, into: Path) -> Path:
    """Download a package, or an older build where the mirror lists it and does not have it.

    Mirrors drop files of suites that only the security team still builds for.
    """
    try:
        return await apt.download(archive, package, into, silent)
    except Failure:
        like = re.compile(NUMBER.sub(r"\\d+", re.escape(package)))
        listed = await run(
            *("apt-cache", "pkgnames", "linux-image-"),
            what=f"cannot find an older {package}",
            env={"APT_CONFIG": str(archive.config)},
        )
        builds = [name for name in listed.text.split() if like.fullmatch(name)]
        for name in sorted(builds, key=_version, reverse=True):
            with contextlib.suppress(Failure):
                return await apt.download(archive, name, into, silent)
        raise


def _version(package: str) -> list[int]:
    return [int(number) for number in NUMBER.findall(package)]


async def get(folders: Folders, trees: Trees, kernel: Stock | Built) -> Path:
    """Return a kernel's bzImage, fetched or built the first time."""
    if isinstance(kernel, Stock):
        return await fetch(folders, kernel)
    return await trees.built(kernel)
