"""The peer's server: dropbear of Debian's packages, as files for a guest; nothing is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mizzen.builders import apt
from mizzen.builders.apt import Archive
from mizzen.builders.cache import keep, workshop
from mizzen.host import cpio
from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.progress import Report

PACKAGE = "dropbear-bin"
WHAT = "cannot fetch dropbear"
COUNT_MAX = 30
"""Packages; dropbear needs seven others."""

LINKER = "ld-linux-x86-64.so.2"
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


async def fetched(folders: Folders, report: Report) -> Path:
    """Return a folder with dropbear and all its libraries, of this host's suite.

    They are kept in the cache. Raises Failure if Debian's mirror cannot be reached.
    """
    suite = apt.this_suite()
    place = folders.cache / "benches" / f"dropbear-{suite}"
    if place.is_dir():
        return place
    async with workshop(place.parent, WHAT) as temporary:
        async with apt.archive(folders, report, suite) as archive:
            for package in await _with_dependencies(archive):
                into = temporary / package
                into.mkdir()
                file = await apt.download(archive, package, into, report)
                await run("dpkg-deb", "-x", file, temporary / "root", what=WHAT)
        return keep(temporary / "root", place)


async def _with_dependencies(archive: Archive) -> list[str]:
    found: list[str] = []
    left = [PACKAGE]
    while left:
        package = left.pop()
        found.append(package)
        if len(found) > COUNT_MAX:
            raise Failure(WHAT, f"it needs more than {COUNT_MAX} packages")
        depends = await apt.field(archive, package, "Depends")
        left += [name for name in names(depends) if name not in (*found, *left)]
    return found


def names(depends: str) -> list[str]:
    """Return the packages that a Depends field names: of alternatives the first."""
    found = (re.match(r"\s*([a-z0-9][a-z0-9.+-]*)", part) for part in depends.split(","))
    return [name[1] for name in found if name]


def entries(root: Path) -> Iterator[cpio.Entry]:
    """Yield dropbear as /bin/dropbear and its libraries in /lib, for an initramfs."""
    yield cpio.file("bin/dropbear", (root / "usr/sbin/dropbear").read_bytes(), 0o755)
    yield cpio.directory("lib")
    yield cpio.directory("lib64")
    yield cpio.link(f"lib64/{LINKER}", f"../lib/{LINKER}")
    for folder in LIBRARIES:
        for path in sorted((root / folder).glob("*.so*")):
            if path.is_symlink():
                yield cpio.link(f"lib/{path.name}", path.readlink().name)
            elif path.is_file():
                yield cpio.file(f"lib/{path.name}", path.read_bytes(), 0o755)
