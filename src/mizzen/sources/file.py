"""Single files of this host, and noticing that they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from mizzen.engine.job import Clock
from mizzen.host.changes import Changes
from mizzen.host.files import explained, sha256
from mizzen.model.errors import Failure
from mizzen.model.file import File

from .folder import PATIENCE, quiet


async def follow(path: Path, clock: Clock) -> AsyncGenerator[File, None]:
    """Yield a file once it has settled, and again after each change to what it holds.

    path: absolute; where it is a link, both ends are watched.
    Raises Failure if there is no such file, or it cannot be read or watched.
    """
    what = f"cannot watch {path}"
    last = None
    with Changes() as changes:
        while True:
            changes.any.clear()
            for folder in _folders(path):
                if changes.watch(folder) is None:
                    raise Failure(what, f"{folder} cannot be watched", "see that it is there")
            file = await asyncio.to_thread(_read, path, what)
            if not changes.any.is_set():
                if file != last:
                    last = file
                    yield file
                await changes.any.wait()
            await quiet(changes, clock, clock.time() + PATIENCE)


def _folders(path: Path) -> set[Path]:
    return {path.parent, path.resolve().parent}


def _read(path: Path, what: str) -> File:
    if not path.is_file():
        why = "it is no file" if path.exists() else "there is no such file"
        raise Failure(what, why, "see that its name is right")
    with explained(what):
        return File(path, sha256(path), path.stat().st_size)
