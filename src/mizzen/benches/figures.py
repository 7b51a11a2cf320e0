"""What a benchmark found: figures, each perhaps beside a peer's, and whether goals were met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mizzen.model.machine import Accel

Aspect = Literal["median", "p99", "ratio", "p99 ratio"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What an aspect of a figure should be: at most the limit, or, if ``least``, at least."""

    aspect: Aspect
    limit: float
    least: bool = False

    def __str__(self) -> str:
        return f"{self.aspect} {'>=' if self.least else '<='} {self.limit:g}"

    def met(self, figure: Figure) -> bool:
        """Whether a figure reaches it; one that lacks the aspect does not."""
        aspects = {
            "median": figure.median,
            "p99": figure.p99,
            "ratio": figure.ratio,
            "p99 ratio": figure.p99 / figure.peer.p99 if figure.peer and figure.peer.p99 else None,
        }
        value = aspects[self.aspect]
        if value is None:
            return False
        return value >= self.limit if self.least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Peer:
    """The same, measured of something else in the same run."""

    name: str
    median: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured n times.

    unit: of median and p99. ratio: the median of each value by the peer's beside it; None without
    a peer. goal: "" where there is none, and then met is None.
    """

    what: str
    unit: str
    n: int
    median: float
    p99: float
    peer: Peer | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """Where it was measured.

    accel, kernel: of guests; None and the host's where there were none. load: of the last minute,
    before anything was measured.
    """

    cpus: int
    accel: Accel | None
    kernel: str
    load: float


@dataclass(frozen=True, slots=True)
class Result:
    """All that one run of a benchmark found."""

    bench: str
    version: str
    host: Host
    figures: tuple[Figure, ...]


def figure(
    what: str,
    unit: str,
    values: Sequence[float],
    *goals: Goal,
    peer: tuple[str, Sequence[float]] | None = None,
) -> Figure:
    """Return the figure for values, of which there is at least one.

    peer: its name and its values, each measured beside the value at the same place.
    """
    found = Figure(
        what,
        unit,
        len(values),
        statistics.median(values),
        percentile(values, 99),
        Peer(peer[0], statistics.median(peer[1]), percentile(peer[1], 99)) if peer else None,
        paired_ratio(values, peer[1]) if peer else None,
    )
    if not goals:
        return found
    return Figure(
        found.what, found.unit, found.n, found.median, found.p99, found.peer, found.ratio,
        " and ".join(map(str, goals)), all(goal.met(found) for goal in goals),
    )  # fmt: skip


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many per cent of all do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def paired_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of each value by the other at its place: drifts of the host cancel out.

    Raises ValueError if they are not equally many.
    """
    return statistics.median(
        value / other for value, other in zip(values, others, strict=True) if other
    )


def missed_first(figures: Sequence[Figure]) -> list[Figure]:
    """Return figures in the order of a table: goals missed, goals met, figures without a goal."""
    order = {False: 0, True: 1, None: 2}
    return sorted(figures, key=lambda one: order[one.met])
