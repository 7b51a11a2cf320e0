"""How jobs are run: when they may, how long, how many at a time, and how often again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypedDict, Unpack


class Level(IntEnum):
    """How much harm a job can do."""

    HARMLESS = 0  # it reads
    LOW = 1  # it makes something that nobody uses yet
    MEDIUM = 2  # it starts something
    HIGH = 3  # it changes what users see
    DANGEROUS = 4  # it may lose something


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a temporary error is met by another attempt.

    attempts: in all. delay: seconds until the second; each wait is twice the one before, up to
    longest.
    """

    attempts: int = 5
    delay: float = 2.0
    longest: float = 300.0

    def wait(self, attempt: int) -> float | None:
        """Return the seconds to wait after that attempt, counted from 1; None to give up."""
        if attempt >= self.attempts:
            return None
        return float(min(self.delay * 2 ** min(attempt - 1, 32), self.longest))


@dataclass(frozen=True, slots=True)
class Pool:
    """Jobs of which only some run at a time. Pools of one name are one; its size is the least."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How an operation's jobs are run.

    timeout: seconds that an attempt may take; None is no end.
    valid_for: seconds after which a result is made anew; None is for ever.
    auto_cancel: whether a job is ended whose result nobody wants any more.
    latched: whether the value before stays while the next one is made, or has failed.
    """

    level: Level = Level.HARMLESS
    pool: Pool | None = None
    retry: Retry = Retry()
    timeout: float | None = None
    valid_for: float | None = None
    auto_cancel: bool = True
    latched: bool = False


class Changes(TypedDict, total=False):
    """What ``policy`` may change; see ``Policy``."""

    level: Level
    pool: Pool | None
    retry: Retry
    timeout: float | None
    valid_for: float | None
    auto_cancel: bool
    latched: bool


_changes: ContextVar[Changes] = ContextVar("policy")


@contextlib.contextmanager
def policy(**changes: Unpack[Changes]) -> Iterator[None]:
    """Change how the jobs of all steps are run that are called in the block; see ``Policy``."""
    token = _changes.set({**_changes.get(Changes()), **changes})
    try:
        yield
    finally:
        _changes.reset(token)


def applied(base: Policy) -> Policy:
    """Return an operation's own policy with what the blocks around a step change."""
    changes = _changes.get(None)
    return replace(base, **changes) if changes else base
