"""An incident: one error that was noticed, however often it came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class IncidentKind(StrEnum):
    """What sort of thing went wrong."""

    OUTPUT = "output"  # the function said so
    KERNEL = "kernel"  # the guest kernel's oops or panic
    EXIT = "exit"  # the function or the VMM ended
    ROLLOUT = "rollout"  # a new release did not get ready


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One error, once.

    source: the machine's name, or what a followed journal calls it ("vm 2").
    message: one line that names the error. lines: all that belong to it, in order.
    fingerprint: equal for errors that a person would call the same.
    time: seconds since the epoch.
    """

    source: str
    kind: IncidentKind
    message: str
    lines: tuple[str, ...]
    fingerprint: str
    time: float


@dataclass(frozen=True, slots=True)
class Incident:
    """An error and how often it came, as the database keeps it."""

    id: int
    source: str
    kind: IncidentKind
    message: str
    lines: tuple[str, ...]
    fingerprint: str
    first_seen: float
    last_seen: float
    count: int
