"""Facts: found out once at some cost, remembered under a key that changes when they may."""

from __future__ import annotations

import sqlite3


def recall(connection: sqlite3.Connection, key: str) -> str | None:
    """Return what is remembered under key, None if nothing is."""
    row = connection.execute("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else None


def remember(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Remember value under key, over what was there."""
    connection.execute(
        "INSERT INTO fact VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def forget(connection: sqlite3.Connection, key: str) -> None:
    """Forget what is remembered under key."""
    connection.execute("DELETE FROM fact WHERE key = ?", (key,))
