"""Services, their releases, and the rollouts that are under way, in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from mizzen.model.service import Release, ReleaseState, Service, Underway

KEEP_RELEASES = 100
"""Releases of a service that are remembered."""

_encoder = msgspec.json.Encoder(enc_hook=str)


def save(connection: sqlite3.Connection, service: Service) -> None:
    """Write a service over what was there under its name."""
    connection.execute(
        "INSERT INTO service VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET record = excluded.record",
        (service.name, _encoder.encode(service).decode()),
    )


def find(connection: sqlite3.Connection, name: str) -> Service | None:
    """Return the service of that name, None if there is none."""
    row = connection.execute("SELECT record FROM service WHERE name = ?", (name,)).fetchone()
    return msgspec.json.decode(row[0], type=Service) if row else None


def everything(connection: sqlite3.Connection) -> list[Service]:
    """Return all services, by name."""
    rows = connection.execute("SELECT record FROM service ORDER BY name")
    return [msgspec.json.decode(row[0], type=Service) for row in rows]


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Forget a service with its releases and its rollout; inside a transaction."""
    connection.execute("DELETE FROM underway WHERE service = ?", (name,))
    connection.execute("DELETE FROM release WHERE service = ?", (name,))
    connection.execute("DELETE FROM service WHERE name = ?", (name,))


def add_release(connection: sqlite3.Connection, release: Release) -> Release:
    """Write a release that is new under the service's next number, and return it with that.

    One that has a source gets its machine's name from its number. Inside a transaction.
    """
    row = connection.execute(
        "SELECT coalesce(max(number), 0) + 1 FROM release WHERE service = ?", (release.service,)
    ).fetchone()
    numbered = replace(release, number=int(row[0]))
    if release.source:
        numbered = replace(numbered, machine=str(numbered))
    save_release(connection, numbered)
    _trim(connection, numbered)
    return numbered


def _trim(connection: sqlite3.Connection, newest: Release) -> None:
    """Forget a service's old releases that are over, and whose machines are gone."""
    over = [state.value for state in (ReleaseState.RETIRED, ReleaseState.FAILED)]
    connection.execute(
        "DELETE FROM release WHERE service = ? AND number <= ?"
        " AND json_extract(record, '$.state') IN (?, ?)"
        " AND json_extract(record, '$.machine') NOT IN (SELECT name FROM machine)",
        (newest.service, newest.number - KEEP_RELEASES, *over),
    )


def save_release(connection: sqlite3.Connection, release: Release) -> None:
    """Write a release over what was there under its number."""
    connection.execute(
        "INSERT INTO release VALUES (?, ?, ?)"
        " ON CONFLICT (service, number) DO UPDATE SET record = excluded.record",
        (release.service, release.number, _encoder.encode(release).decode()),
    )


def find_release(connection: sqlite3.Connection, service: str, number: int) -> Release | None:
    """Return one release of a service, None if there is none of that number."""
    row = connection.execute(
        "SELECT record FROM release WHERE service = ? AND number = ?", (service, number)
    ).fetchone()
    return _release(row[0]) if row else None


def releases(connection: sqlite3.Connection, service: str) -> list[Release]:
    """Return a service's releases, by number."""
    rows = connection.execute(
        "SELECT record FROM release WHERE service = ? ORDER BY number", (service,)
    )
    return [_release(row[0]) for row in rows]


def all_releases(connection: sqlite3.Connection) -> list[Release]:
    """Return the releases of all services, by service and number."""
    rows = connection.execute("SELECT record FROM release ORDER BY service, number")
    return [_release(row[0]) for row in rows]


def claim(connection: sqlite3.Connection, rollout: Underway) -> None:
    """Write that a service is being rolled out. Raises sqlite3.IntegrityError if it is already."""
    connection.execute(
        "INSERT INTO underway VALUES (?, ?, ?, ?, ?)",
        (rollout.service, rollout.number, rollout.pid, rollout.pid_start, rollout.since),
    )


def underway(connection: sqlite3.Connection) -> list[Underway]:
    """Return the rollouts that are not over, by service."""
    rows = connection.execute(
        "SELECT service, number, pid, pid_start, since FROM underway ORDER BY service"
    )
    return [Underway(*row) for row in rows]


def take_over(connection: sqlite3.Connection, before: Underway, after: Underway) -> bool:
    """Change who does a rollout; False if somebody else has changed it meanwhile."""
    changed = connection.execute(
        "UPDATE underway SET pid = ?, pid_start = ?"
        " WHERE service = ? AND number = ? AND pid = ? AND pid_start = ?",
        (
            after.pid,
            after.pid_start,
            before.service,
            before.number,
            before.pid,
            before.pid_start,
        ),
    )
    return changed.rowcount == 1


def conclude(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Write that these services' rollouts are over."""
    connection.executemany("DELETE FROM underway WHERE service = ?", [(name,) for name in names])


def _release(record: str) -> Release:
    return msgspec.json.decode(record, type=Release, dec_hook=lambda kind, value: kind(value))
