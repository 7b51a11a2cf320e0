"""How the control socket is asked for jobs: the query of ``GET /jobs``, and its answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from mizzen.model.job import JobFilter, JobLine, JobRecord

PAGE = 200
"""Jobs of an answer, unless it is asked for fewer."""

LINES = 1000
"""Lines of a log in an answer."""


@dataclass(frozen=True, slots=True)
class Page:
    """What part of the jobs is asked for: those before a number, and how many."""

    before: int | None = None
    limit: int = PAGE


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs, the newest first. before: asks for those that follow; None if there are none."""

    jobs: list[JobRecord]
    before: int | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of a job's log. after: asks for those that follow; None if there are none yet."""

    lines: list[JobLine]
    after: int | None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of rebuilding all that failed: numbers of jobs, and why others were not."""

    rebuilt: list[int]
    refused: list[str]


@dataclass(frozen=True, slots=True)
class Told:
    """A failure on its way."""

    what: str
    why: str
    fix: str


def to_query(wanted: JobFilter, page: Page) -> list[tuple[str, str]]:
    """Return names and values that ``from_query`` understands."""
    fields = {**msgspec.to_builtins(wanted), **msgspec.to_builtins(page)}
    states = fields.pop("states")
    named = [(name, str(value)) for name, value in fields.items() if value not in {"", None}]
    return [*named, *(("state", state) for state in states)]


def from_query(query: Iterable[tuple[str, str]]) -> tuple[JobFilter, Page]:
    """Return what is asked for. Raises msgspec.ValidationError for what nobody understands."""
    states = []
    fields: dict[str, object] = {}
    for name, value in query:
        if name == "state":
            states.append(value)
        elif name in _KNOWN:
            fields[name] = value
        else:
            known = ", ".join(sorted(_KNOWN | {"state"}))
            raise msgspec.ValidationError(f"there is no {name}; there are {known}")
    wanted = msgspec.convert({**fields, "states": states}, JobFilter, strict=False)
    page = msgspec.convert(fields, Page, strict=False)
    if not 0 < page.limit <= PAGE or not 0 <= (page.before or 0) < 1 << 63:
        raise msgspec.ValidationError(f"limit is 1 to {PAGE}, before the number of a job")
    return wanted, page


_KNOWN = {"pipeline", "operation", "since", "until", "text", "before", "limit"}
