"""Jobs and their logs, in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from mizzen.model.errors import Failure
from mizzen.model.job import UNFINISHED, JobFilter, JobLine, JobRecord, JobState

_COLUMNS = (
    "id, pipeline, operation, key, digest, label, level, state, confirmed, created, started,"
    " ended, attempts, error"
)
_NAMES = _COLUMNS.split(", ")
_UNFINISHED = ", ".join(f"'{state}'" for state in UNFINISHED)


KEEP = 10_000
"""Jobs that are remembered."""

KEEP_LINES = 20_000
"""Lines of a job's log that are: the newest, as a failure is told at the end."""


def open_job(connection: sqlite3.Connection, wanted: JobRecord, *, endless: bool) -> JobRecord:
    """Return a new job, in a transaction; with any id in ``wanted``.

    One of the same inputs that was interrupted goes on: under its number if it is endless or had
    not begun, and without being confirmed again. endless: it has no result, and only ever ends so.
    """
    last = latest(connection, wanted.operation, wanted.key, wanted.digest)
    if last is not None and last.state is JobState.INTERRUPTED:
        confirmed = last.confirmed or wanted.confirmed
        state = JobState.QUEUED if confirmed else wanted.state
        wanted = replace(wanted, confirmed=confirmed, state=state)
        if endless or last.started is None:
            connection.execute(
                "UPDATE job SET state = ?, ended = NULL WHERE id = ?", (state, last.id)
            )
            return replace(last, state=state, ended=None)
    made = connection.execute(
        "INSERT INTO job (pipeline, operation, key, digest, label, level, state, confirmed,"
        " created, attempts, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '')",
        (
            wanted.pipeline,
            wanted.operation,
            wanted.key,
            wanted.digest,
            wanted.label,
            wanted.level,
            wanted.state,
            wanted.confirmed,
            wanted.created,
        ),
    )
    number = int(made.lastrowid or 0)
    if number % (KEEP // 100) == 0:
        trim(connection)
    return replace(wanted, id=number)


def confirm(connection: sqlite3.Connection, job: int) -> bool:
    """Write that somebody has released a job; False if it does not wait for that."""
    changed = connection.execute(
        "UPDATE job SET confirmed = 1, state = 'queued' WHERE id = ? AND state = 'waiting'", (job,)
    )
    return changed.rowcount == 1


def begin(connection: sqlite3.Connection, job: int, now: float) -> None:
    """Write that a job begins an attempt."""
    connection.execute(
        "UPDATE job SET state = 'running', started = coalesce(started, ?),"
        " attempts = attempts + 1 WHERE id = ?",
        (now, job),
    )


def finish(
    connection: sqlite3.Connection,
    job: int,
    state: JobState,
    now: float,
    error: Failure | None = None,
) -> None:
    """Write a job's end."""
    connection.execute(
        "UPDATE job SET state = ?, ended = ?, error = ? WHERE id = ?",
        (state, now, encode_error(error), job),
    )


def interrupt(connection: sqlite3.Connection, now: float) -> None:
    """Write that jobs ended which had not when Mizzen was killed."""
    connection.execute(
        f"UPDATE job SET state = 'interrupted', ended = ? WHERE state IN ({_UNFINISHED})", (now,)
    )


def latest(
    connection: sqlite3.Connection, operation: str, key: str, digest: str
) -> JobRecord | None:
    """Return the last job of these inputs, None if there was none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM job WHERE operation = ? AND key = ? AND digest = ?"
        " ORDER BY id DESC LIMIT 1",
        (operation, key, digest),
    ).fetchone()
    return _job(row) if row else None


def find(connection: sqlite3.Connection, job: int) -> JobRecord | None:
    """Return a job, None if there is none of that number."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM job WHERE id = ?", (job,)).fetchone()
    return _job(row) if row else None


def page(
    connection: sqlite3.Connection, wanted: JobFilter, *, before: int | None, limit: int
) -> list[JobRecord]:
    """Return jobs, the newest first, from those with smaller numbers than ``before``."""
    conditions, values = _conditions(wanted)
    if before is not None:
        conditions.append("id < ?")
        values.append(before)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM job{where} ORDER BY id DESC LIMIT ?", (*values, limit)
    )
    return [_job(row) for row in rows]


def write_lines(connection: sqlite3.Connection, lines: Iterable[tuple[int, JobLine]]) -> None:
    """Write lines of jobs' logs, each with its job's number, and forget logs' oldest lines."""
    last: dict[int, int] = {}
    for job, line in lines:
        connection.execute(
            "INSERT OR REPLACE INTO job_line VALUES (?, ?, ?, ?)",
            (job, line.number, line.at, line.text),
        )
        last[job] = line.number
    connection.executemany(
        "DELETE FROM job_line WHERE job = ? AND number <= ?",
        ((job, number - KEEP_LINES) for job, number in last.items() if number >= KEEP_LINES),
    )


def lines(
    connection: sqlite3.Connection, job: int, *, after: int = -1, limit: int = 1000
) -> list[JobLine]:
    """Return lines of a job's log that follow the one of a number."""
    rows = connection.execute(
        "SELECT number, at, text FROM job_line WHERE job = ? AND number > ?"
        " ORDER BY number LIMIT ?",
        (job, after, limit),
    )
    return [JobLine(*row) for row in rows]


def count_lines(connection: sqlite3.Connection, job: int) -> int:
    """Return the number that a job's next line has."""
    row = connection.execute(
        "SELECT coalesce(max(number) + 1, 0) FROM job_line WHERE job = ?", (job,)
    ).fetchone()
    return int(row[0])


def trim(connection: sqlite3.Connection, keep: int = KEEP) -> None:
    """Forget all but the newest jobs, and of those nothing that has not ended; a transaction."""
    gone = (
        "SELECT id FROM job WHERE id <= (SELECT max(id) FROM job) - ?"
        f" AND state NOT IN ({_UNFINISHED})"
    )
    connection.execute(f"DELETE FROM job_line WHERE job IN ({gone})", (keep,))
    connection.execute(f"DELETE FROM job WHERE id IN ({gone})", (keep,))


def encode_error(error: Failure | None) -> str:
    """Return a failure as the database has it."""
    if error is None:
        return ""
    return msgspec.json.encode((error.what, error.why, error.fix)).decode()


def decode_error(text: str) -> Failure | None:
    """Return what ``encode_error`` was given."""
    return Failure(*msgspec.json.decode(text, type=tuple[str, str, str])) if text else None


def _conditions(wanted: JobFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []

    def add(condition: str, value: object) -> None:
        conditions.append(condition)
        values.append(value)

    if wanted.pipeline:
        add("pipeline = ?", wanted.pipeline)
    if wanted.operation:
        add("label GLOB ?", _literal(wanted.operation) + "*")
    if wanted.states:
        conditions.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values.extend(wanted.states)
    if wanted.since is not None:
        add("created >= ?", wanted.since)
    if wanted.until is not None:
        add("created <= ?", wanted.until)
    if wanted.text:
        found = "EXISTS (SELECT 1 FROM job_line WHERE job = job.id AND instr(text, ?))"
        add(found, wanted.text)
    return conditions, values


def _literal(text: str) -> str:
    """Return a pattern of GLOB that means a text itself."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


def _job(row: Sequence[Any]) -> JobRecord:
    values = dict(zip(_NAMES, row, strict=True))
    error = decode_error(values["error"])
    told = {"confirmed": bool(values["confirmed"]), "error": str(error) if error else ""}
    return JobRecord(**{**values, **told, "state": JobState(values["state"])})
