"""What an operation has while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mizzen.host.paths import Folders
from mizzen.model.job import Outcome
from mizzen.model.progress import Progress


class Clock(Protocol):
    """Tells the time; tests have one of their own."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""
        ...


class World(Protocol):
    """What an operation may know of the pipeline around it."""

    @property
    def wanted(self) -> Callable[[str], frozenset[str]]:
        """Return the keys that steps want set at present by a publication of that id."""
        ...

    @property
    def known(self) -> Callable[[], Iterable[object]]:
        """Return what steps of all pipelines have for values, and what they want done."""
        ...

    def published(self, operation: str) -> Sequence[Outcome]:
        """Return what this pipeline has ever set by a publication and not forgotten."""
        ...

    def forget(self, operation: str, key: str) -> None:
        """Forget a key that the operation has taken back."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One run of an operation.

    number: counts all jobs; 0 where there is none. pipeline: whose step it is.
    log: writes a line, for whoever reads the job's log.
    """

    number: int
    pipeline: str
    folders: Folders
    clock: Clock
    world: World
    log: Callable[[str], None]

    def report(self, progress: Progress) -> None:
        """Write what long work tells of itself; each task once when it begins."""
        if not progress.done and not progress.finished:
            self.log(progress.task)
