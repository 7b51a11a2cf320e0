"""How far what a source writes has been taken in: opaque to the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable


def state(connection: sqlite3.Connection, source: str) -> bytes | None:
    """Return the state saved for a source, None if it was never followed."""
    row = connection.execute("SELECT state FROM followed WHERE source = ?", (source,)).fetchone()
    return bytes(row[0]) if row else None


def save(connection: sqlite3.Connection, source: str, state: bytes) -> None:
    """Save a source's state over what was there."""
    connection.execute(
        "INSERT INTO followed VALUES (?, ?)"
        " ON CONFLICT (source) DO UPDATE SET state = excluded.state",
        (source, state),
    )


def sources(connection: sqlite3.Connection) -> list[str]:
    """Return all sources that have a state."""
    rows = connection.execute("SELECT source FROM followed ORDER BY source")
    return [str(row[0]) for row in rows]


def forget(connection: sqlite3.Connection, gone: Iterable[str]) -> None:
    """Forget the state of sources that are no more; their incidents stay."""
    connection.executemany("DELETE FROM followed WHERE source = ?", [(name,) for name in gone])
