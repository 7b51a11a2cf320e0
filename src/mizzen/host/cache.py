"""Folders of things built once, one folder a kind, each thing under its digest or name.

A thing is made in a temporary folder and moved into place whole, so that killing a builder at
any point leaves at most a temporary folder, which the next builder of that kind sweeps away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from .files import explained, turn

PREFIX = ".new-"


@contextlib.asynccontextmanager
async def workshop(kind: Path, what: str) -> AsyncIterator[Path]:
    """Yield an empty temporary folder inside ``kind``, for one builder at a time.

    what: the beginning of the Failure's line when the system refuses something inside.
    The folder is gone afterwards, except for what was moved out of it.
    """
    with explained(what):
        async with turn(kind / ".lock"):
            _sweep(kind)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=kind))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def bench(kind: Path, what: str) -> AsyncIterator[Path]:
    """Yield a temporary folder as ``workshop`` does, for many builders at a time."""
    with explained(what):
        async with turn(kind / ".lock"):
            _sweep(kind)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=kind))
            held = _lock(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def closed(kind: Path) -> Path:
    """Return a folder of things that only their owner may enter, made or closed."""
    kind.mkdir(parents=True, exist_ok=True)
    kind.chmod(0o700)
    return kind


def _sweep(kind: Path) -> None:
    for stale in kind.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):  # somebody is at that bench, or has just left it
            held = _lock(stale)
            shutil.rmtree(stale, ignore_errors=True)
            os.close(held)


def _lock(folder: Path) -> int:
    """Return a descriptor of a folder that nobody else has locked. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def keep(made: Path, place: Path) -> Path:
    """Move what was made to its place, unless an equal thing is there already."""
    if not used(place):
        _settle(made)
        made.rename(place)
    return place


def used(place: Path) -> bool:
    """Whether a thing is there; its modification time tells from then on when this was asked."""
    try:
        os.utime(place)
    except FileNotFoundError:
        return False
    return True


def _settle(made: Path) -> None:
    """Put content on disk before its name is: a power cut must not leave the one alone."""
    if made.is_dir():
        os.sync()  # one call for thousands of files
        return
    with made.open("rb") as file:
        os.fsync(file.fileno())
