"""Folders and files of this host."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from mizzen.engine.job import Job
from mizzen.engine.operation import Observation
from mizzen.engine.policy import Policy, Retry
from mizzen.engine.step import step
from mizzen.engine.terms import Term, caller
from mizzen.host.paths import expanded
from mizzen.model.file import File
from mizzen.sources import file as files
from mizzen.sources import folder
from mizzen.sources.folder import Folder

__all__ = ["File", "Folder", "file", "path"]


class Watched(Observation[Folder], frozen=True, kw_only=True):
    """A folder as it changes."""

    id: ClassVar[str] = "local path"
    policy: ClassVar[Policy] = Policy(retry=Retry(delay=1.0, longest=15.0))
    path: Path

    async def observe(self, job: Job) -> AsyncGenerator[Folder, None]:
        """Yield the folder whenever what it holds has changed."""
        folders = folder.follow(self.path, job.clock)
        async with aclosing(folders):
            async for one in folders:
                job.log(f"{one} holds {one.digest[:12]}")
                yield one


class WatchedFile(Observation[File], frozen=True, kw_only=True):
    """A file as it changes."""

    id: ClassVar[str] = "local file"
    policy: ClassVar[Policy] = Watched.policy
    path: Path

    async def observe(self, job: Job) -> AsyncGenerator[File, None]:
        """Yield the file whenever what it holds has changed."""
        found = files.follow(self.path, job.clock)
        async with aclosing(found):
            async for one in found:
                job.log(f"{one.path} holds {one.digest[:12]}")
                yield one


def path(place: str | Path) -> Term[Folder]:
    """Return a folder, and again each time that what it holds has changed.

    place: relative to the pipeline's file. The kernel tells of changes; after 0.3 s without one
    the folder is looked at, and after 30 s even if it never rests. Names, modes and contents
    count, times do not, nor what is in ``.git``. Symbolic links are not followed.

        image = docker.build(local.path("site"))

    Fails, and tries again within 15 s, if there is no such folder or it cannot be read.
    """
    return step(Watched, str(place), path=_whole(place).resolve())


def file(place: str | Path) -> Term[File]:
    """Return a file, and again each time that what it holds has changed.

    place: relative to the pipeline's file. The kernel tells of changes, as of a folder's.

        vm = unikernel.file(local.file("build/hello.elf"))

    Fails, and tries again within 15 s, if there is no such file or it cannot be read.
    """
    return step(WatchedFile, str(place), path=_whole(place))


def _whole(place: str | Path) -> Path:
    return Path(caller().file).absolute().parent / expanded(place)
