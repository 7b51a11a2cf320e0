"""Folders of this host, and noticing that something in them has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from mizzen.engine.job import Clock
from mizzen.host import trees
from mizzen.host.changes import Changes
from mizzen.host.files import explained
from mizzen.model.errors import Failure

from .waiting import either

QUIET = 0.3
"""Seconds without a change after which a folder counts as settled."""

PATIENCE = 30.0
"""Seconds after which a folder that does not settle is taken as it is."""

LET_OTHERS = 100
"""Folders that are watched before other tasks may run."""

WITHOUT = (".git",)
"""What is not looked at: git writes there whenever it is asked something."""


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder as it was at one time. digest: SHA-256 over names, modes and contents in it."""

    path: Path
    digest: str

    def __str__(self) -> str:
        return str(self.path)


async def follow(path: Path, clock: Clock) -> AsyncGenerator[Folder, None]:
    """Yield a folder once it has settled, and again after each change to what it holds.

    Raises Failure if it cannot be read or watched.
    """
    what = f"cannot watch {path}"
    last = ""
    deadline = clock.time() + PATIENCE
    with Changes() as changes:
        while True:
            changes.any.clear()
            await _watch(path, changes, what)
            digest = await _digest(path, what)
            if digest and (not changes.any.is_set() or clock.time() >= deadline):
                if digest != last:
                    last = digest
                    yield Folder(path=path, digest=digest)
                await changes.any.wait()
                deadline = clock.time() + PATIENCE
            await quiet(changes, clock, deadline)


async def _watch(path: Path, changes: Changes, what: str) -> None:
    """Watch a folder and all inside it; those that are watched already stay so."""
    _check(path, what)
    with explained(what), contextlib.suppress(FileNotFoundError):
        for number, folder in enumerate(trees.folders(path, WITHOUT)):  # each before its content
            if changes.watch(folder) is None and folder.is_dir():
                why = f"the system does not let {folder} be watched"
                raise Failure(what, why, "raise fs.inotify.max_user_watches with sysctl")
            if number % LET_OTHERS == 0:
                await asyncio.sleep(0)


def _check(path: Path, what: str) -> None:
    if not path.is_dir():
        raise Failure(what, "there is no such folder", "see that its name is right")


async def _digest(path: Path, what: str) -> str:
    """Return a folder's digest; "" if something in it vanished meanwhile."""
    with explained(what), contextlib.suppress(FileNotFoundError):
        return await asyncio.to_thread(trees.digest, path, WITHOUT)
    return ""


async def quiet(changes: Changes, clock: Clock, deadline: float) -> None:
    """Wait until nothing has changed for a while, or it is time to go on all the same."""
    while clock.time() < deadline:
        changes.any.clear()
        if not await either(changes.any, clock.sleep(QUIET)):
            return
