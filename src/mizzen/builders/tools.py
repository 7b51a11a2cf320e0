"""Tools for sessions, as folders that are kept in the cache; ``toolmaking.py`` makes them.

An image's or an archive's files are below ``cache/tools/``, each with a record beside it. That
folder is closed to others, for files in it may have set-user-id. Whoever uses one holds a shared
lock on it (``held``), so that it is not removed meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from mizzen.host.cache import closed, workshop
from mizzen.host.files import explained, replacing
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure

from . import toolbox

PAGE = 4096
COUNT_MAX = 1 << 20
"""Files; more are not counted but refused."""


@dataclass(frozen=True, slots=True)
class Tools:
    """A root file system in a folder.

    name: what the user called it. size: bytes that its files take up in whole pages.
    count: files, folders and links. made: when, in seconds since the epoch; 0 for a folder.
    """

    name: str
    path: Path
    size: int
    count: int
    made: float = 0


def default(folders: Folders) -> Tools | None:
    """Return the default tools of this host's suite if they were built."""
    return recall(folders.cache / "tools" / toolbox.key())


def everything(folders: Folders) -> list[Tools]:
    """Return all tools in the cache, by name."""
    kind = folders.cache / "tools"
    found = (recall(path) for path in kind.glob("*") if path.is_dir())
    return sorted((tools for tools in found if tools), key=lambda tools: tools.name)


async def remove(folders: Folders, name: str) -> list[Tools]:
    """Remove tools from the cache by name; return what was removed.

    Raises Failure if there are none of that name, or a session uses them.
    """
    what = f"cannot remove the tools {name}"
    async with workshop(closed(folders.cache / "tools"), what) as temporary:
        found = [tools for tools in everything(folders) if tools.name == name]
        if not found:
            raise Failure(what, "there are none", "see: mizzen tools list")
        for tools in found:
            take_away(tools.path, temporary, what)
    return found


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Yield a descriptor of a folder with tools, which are not removed meanwhile."""
    what = f"cannot use the tools in {path}"
    with explained(what):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with explained(what):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            path.stat()  # fails if it was removed before it was locked
        yield descriptor
    finally:
        os.close(descriptor)


def measured(name: str, path: Path, what: str) -> Tools:
    """Return a folder as tools, its files counted. Raises Failure, or OSError."""
    size = count = 0
    folders: list[Path | str] = [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    size += -(-entry.stat(follow_symlinks=False).st_size // PAGE) * PAGE
        if count > COUNT_MAX:
            raise Failure(what, f"it has more than {COUNT_MAX} files", "name one with tools only")
    return Tools(name, path, size, count)


def _record(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def recorded(place: Path, name: str) -> Tools:
    """Return tools in the cache, their record written where it is missing."""
    known = recall(place)
    if known is None:
        what = f"cannot use the tools {name}"
        with explained(what):
            known = replace(measured(name, place, what), made=time.time())
            with replacing(_record(place)) as written:
                written.write_bytes(msgspec.json.encode(known, enc_hook=str))
    return known


def recall(place: Path) -> Tools | None:
    """Return tools in the cache by their folder, None if they are not there as a whole."""
    try:
        known = msgspec.json.decode(
            _record(place).read_bytes(), type=Tools, dec_hook=lambda kind, value: kind(value)
        )
    except (OSError, msgspec.MsgspecError):
        return None
    return replace(known, path=place) if place.is_dir() else None


def take_away(place: Path, temporary: Path, what: str) -> None:
    """Move tools out of the cache, if they are there, into a folder that is temporary.

    Raises Failure if a session uses them.
    """
    if not place.is_dir():
        return
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _record(place).unlink(missing_ok=True)
        place.rename(temporary / f"old-{place.name}")
    except BlockingIOError:
        raise Failure(what, "a session uses them", "leave it first") from None
    finally:
        os.close(descriptor)
