"""Incidents in the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from mizzen.model.incident import Incident, IncidentKind, Occurrence

from . import followed
from .database import transaction

MOST = 500
"""Different errors kept of one source; what a guest makes up beyond that counts as one."""

_COLUMNS = "id, source, kind, message, lines, fingerprint, first_seen, last_seen, count"


def _incident(row: tuple[object, ...]) -> Incident:
    number, source, kind, message, lines, fingerprint, first, last, count = row
    return Incident(
        id=int(str(number)),
        source=str(source),
        kind=IncidentKind(str(kind)),
        message=str(message),
        lines=tuple(json.loads(str(lines))),
        fingerprint=str(fingerprint),
        first_seen=float(str(first)),
        last_seen=float(str(last)),
        count=int(str(count)),
    )


def record(connection: sqlite3.Connection, seen: Occurrence) -> Incident:
    """Record an occurrence: a new incident, or one more count of a known one."""
    row = connection.execute(
        "INSERT INTO incident (source, fingerprint, kind, message, lines,"
        " first_seen, last_seen, count) VALUES (?, ?, ?, ?, ?, ?, ?, 1)"
        " ON CONFLICT (source, fingerprint) DO UPDATE"
        " SET last_seen = max(last_seen, excluded.last_seen), count = count + 1"
        f" RETURNING {_COLUMNS}",
        (
            seen.source,
            seen.fingerprint,
            seen.kind.value,
            seen.message,
            json.dumps(seen.lines),
            seen.time,
            seen.time,
        ),
    ).fetchone()
    return _incident(row)


def take_in(
    connection: sqlite3.Connection, seen: Iterable[Occurrence], source: str, state: bytes
) -> list[Incident]:
    """Record occurrences and how far their source has been followed, all or nothing.

    So whoever goes on from the state after a crash neither misses an error nor counts one twice.
    """
    with transaction(connection):
        incidents = [record(connection, _bounded(connection, one)) for one in seen]
        followed.save(connection, source, state)
    return incidents


def _bounded(connection: sqlite3.Connection, seen: Occurrence) -> Occurrence:
    known = connection.execute(
        "SELECT (SELECT count(*) FROM incident WHERE source = ?) < ?"
        " OR EXISTS (SELECT 1 FROM incident WHERE source = ? AND fingerprint = ?)",
        (seen.source, MOST, seen.source, seen.fingerprint),
    ).fetchone()[0]
    if known:
        return seen
    return replace(seen, fingerprint="others", message=f"more than {MOST} different errors")


def find(connection: sqlite3.Connection, number: int) -> Incident | None:
    """Return the incident of that id, None if there is none."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM incident WHERE id = ?", (number,)).fetchone()
    return _incident(row) if row else None


def find_mark(connection: sqlite3.Connection, source: str, fingerprint: str) -> Incident | None:
    """Return the incident of a source that has that fingerprint, None if there is none."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM incident WHERE source = ? AND fingerprint = ?",
        (source, fingerprint),
    ).fetchone()
    return _incident(row) if row else None


def everything(connection: sqlite3.Connection) -> list[Incident]:
    """Return all incidents, the one seen last first."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM incident ORDER BY last_seen DESC, id DESC")
    return [_incident(row) for row in rows]
