"""Programs of Debian's packages, unpacked into the cache: nothing is installed or started."""

from __future__ import annotations

import re
from pathlib import Path

from mizzen.builders import apt
from mizzen.builders.apt import Archive
from mizzen.host.cache import keep, workshop
from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.progress import Report

COUNT_MAX = 60
"""Packages that one program may need."""

LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LINKER = "ld-linux-x86-64.so.2"


async def unpacked(folders: Folders, report: Report, package: str) -> Path:
    """Return a folder with a package of this host's suite and the libraries it needs.

    It is kept in the cache. Raises Failure if Debian's mirror cannot be reached.
    """
    suite = apt.this_suite()
    what = f"cannot fetch {package}"
    place = folders.cache / "benches" / f"{package}-{suite}"
    if place.is_dir():
        return place
    async with workshop(place.parent, what) as temporary:
        async with apt.archive(folders, report, suite) as archive:
            for name in await _with_libraries(archive, package, what):
                into = temporary / name
                into.mkdir()
                file = await apt.download(archive, name, into, report)
                await run("dpkg-deb", "-x", file, temporary / "root", what=what)
        return keep(temporary / "root", place)


async def _with_libraries(archive: Archive, package: str, what: str) -> list[str]:
    found: list[str] = []
    left = [package]
    while left:
        name = left.pop()
        found.append(name)
        if len(found) > COUNT_MAX:
            raise Failure(what, f"it needs more than {COUNT_MAX} packages")
        depends = await apt.field(archive, name, "Depends")
        left += [one for one in libraries(depends) if one not in (*found, *left)]
    return found


def libraries(depends: str) -> list[str]:
    """Return the libraries that a Depends field names: of alternatives the first.

    Debian calls their packages lib..., and one zlib1g.
    """
    found = (re.match(r"\s*((?:lib|zlib)[a-z0-9.+-]*)", part) for part in depends.split(","))
    return [name[1] for name in found if name]


def command(root: Path, program: str, *arguments: str) -> list[str]:
    """Return the command line of a program in a folder of ``unpacked``, on its own libraries.

    program: below the folder.
    """
    places = [root / folder for folder in LIBRARIES]
    linker = next(path for place in places if (path := place / LINKER).exists())
    libraries = ":".join(map(str, places))
    return [str(linker), "--library-path", libraries, str(root / program), *arguments]
