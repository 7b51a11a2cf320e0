"""How long work tells what it is doing: plain values, handed up through a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of a task under way.

    task: what is being done, as a user reads it; reports of one task carry the same text.
    done, total: in units of the task (bytes, packages); total None while it is not known.
    finished: the task is over; no later report of it follows.
    """

    task: str
    done: int = 0
    total: int | None = None
    finished: bool = False


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Take a report and show it to nobody."""
