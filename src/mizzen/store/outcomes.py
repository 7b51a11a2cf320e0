"""What operations have come to, in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from mizzen.model.errors import Failure
from mizzen.model.job import Outcome

from .jobs import decode_error, encode_error

_COLUMNS = "operation, key, pipeline, digest, value, at, sure, failed_digest, error, job"
_NAMES = _COLUMNS.split(", ")


def find(connection: sqlite3.Connection, operation: str, key: str) -> Outcome | None:
    """Return what is remembered under a key, None if nothing is."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM outcome WHERE operation = ? AND key = ?", (operation, key)
    ).fetchone()
    return _outcome(row) if row else None


def of_pipeline(connection: sqlite3.Connection, operation: str, pipeline: str) -> list[Outcome]:
    """Return what an operation has come to in a pipeline, by key."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM outcome WHERE operation = ? AND pipeline = ? ORDER BY key",
        (operation, pipeline),
    )
    return [_outcome(row) for row in rows]


def everything(connection: sqlite3.Connection) -> list[Outcome]:
    """Return what all operations have come to, by operation and key."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM outcome ORDER BY operation, key")
    return [_outcome(row) for row in rows]


def pipelines(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the pipelines of which anything is remembered."""
    rows = connection.execute("SELECT DISTINCT pipeline FROM outcome ORDER BY pipeline")
    return [row[0] for row in rows]


def keys(connection: sqlite3.Connection, operation: str) -> list[str]:
    """Return all that an operation is remembered under, in any pipeline."""
    rows = connection.execute("SELECT key FROM outcome WHERE operation = ?", (operation,))
    return [row[0] for row in rows]


def succeed(connection: sqlite3.Connection, outcome: Outcome) -> None:
    """Write a value over what was remembered."""
    connection.execute(
        f"INSERT OR REPLACE INTO outcome ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 1, '', '', ?)",
        (
            outcome.operation,
            outcome.key,
            outcome.pipeline,
            outcome.digest,
            outcome.value,
            outcome.at,
            outcome.job,
        ),
    )


def doubt(connection: sqlite3.Connection, wanted: Outcome) -> None:
    """Write that a key is about to be set: what it was before may be true no more.

    The key is written too if it is new, so that what a killed process made of it is found.
    """
    connection.execute(
        f"INSERT INTO outcome ({_COLUMNS}) VALUES (?, ?, ?, '', NULL, ?, 0, '', '', ?)"
        " ON CONFLICT (operation, key) DO UPDATE SET sure = 0, failed_digest = '', error = '',"
        " pipeline = excluded.pipeline, job = excluded.job",
        (wanted.operation, wanted.key, wanted.pipeline, wanted.at, wanted.job),
    )


def fail(connection: sqlite3.Connection, wanted: Outcome, error: Failure) -> None:
    """Write that inputs have failed, beside the value that there was before."""
    connection.execute(
        f"INSERT INTO outcome ({_COLUMNS}) VALUES (?, ?, ?, '', NULL, ?, 0, ?, ?, ?)"
        " ON CONFLICT (operation, key) DO UPDATE SET failed_digest = excluded.failed_digest,"
        " error = excluded.error, job = excluded.job",
        (
            wanted.operation,
            wanted.key,
            wanted.pipeline,
            wanted.at,
            wanted.digest,
            encode_error(error),
            wanted.job,
        ),
    )


def unfail(connection: sqlite3.Connection, operation: str, key: str) -> None:
    """Forget that a key has failed, and doubt its value, so that it is made anew."""
    connection.execute(
        "UPDATE outcome SET failed_digest = '', error = '', sure = 0"
        " WHERE operation = ? AND key = ?",
        (operation, key),
    )


def adopt(connection: sqlite3.Connection, operation: str, key: str, pipeline: str) -> None:
    """Write that a key is a pipeline's from now on, whoever had it."""
    connection.execute(
        "UPDATE outcome SET pipeline = ? WHERE operation = ? AND key = ?",
        (pipeline, operation, key),
    )


def forget(connection: sqlite3.Connection, operation: str, key: str) -> None:
    """Forget a key."""
    connection.execute("DELETE FROM outcome WHERE operation = ? AND key = ?", (operation, key))


def _outcome(row: Sequence[Any]) -> Outcome:
    values = dict(zip(_NAMES, row, strict=True))
    read = {"sure": bool(values["sure"]), "error": decode_error(values["error"])}
    return Outcome(**{**values, **read})
