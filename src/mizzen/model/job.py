"""Jobs: what operations do, one run each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .errors import Failure


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"  # for somebody to confirm it
    QUEUED = "queued"  # for a place in its pool
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"  # by somebody, or because nobody wants its result any more
    INTERRUPTED = "interrupted"  # Mizzen ended while it ran


UNFINISHED = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is remembered.

    operation: its id. key: what its outcome is remembered under. digest: of its inputs.
    label: the operation and what tells it from others, as the graph shows it.
    level: how much harm it can do, from 0. confirmed: whether somebody has released it.
    created, started, ended: seconds since the epoch; None if it has not come to that.
    attempts: that were begun. error: why it failed, in one line; "" otherwise.
    """

    id: int
    pipeline: str
    operation: str
    key: str
    digest: str
    label: str
    level: int
    state: JobState
    confirmed: bool
    created: float
    started: float | None
    ended: float | None
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class JobLine:
    """A line of a job's log. number: counts from 0. at: seconds since the epoch."""

    number: int
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; every condition that is given holds.

    operation: an id, or the beginning of one. states: any of these; empty is all.
    since, until: seconds since the epoch between which it was created.
    text: is in a line of its log.
    """

    pipeline: str = ""
    operation: str = ""
    states: tuple[JobState, ...] = ()
    since: float | None = None
    until: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation has come to.

    key: of a build the digest, of a publication what it sets. pipeline: whose step it was last.
    digest: of the inputs that gave the value; "" while there is none. value: as JSON.
    at: seconds since the epoch. sure: False while another value is set, or after that failed.
    failed_digest, error: the inputs that failed after that, and why; "" and None of none.
    job: the last that changed this.
    """

    operation: str
    key: str
    pipeline: str
    digest: str = ""
    value: bytes | None = None
    at: float = 0.0
    sure: bool = False
    failed_digest: str = ""
    error: Failure | None = None
    job: int = 0
