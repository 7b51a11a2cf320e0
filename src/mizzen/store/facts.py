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


def recall_any(connection: sqlite3.Connection, prefix: str) -> str | None:
    """Return what was remembered last under a key that begins with prefix."""
    row = connection.execute(
        "SELECT value FROM fact WHERE substr(key, 1, length(?)) = ? ORDER BY rowid DESC LIMIT 1",
        (prefix, prefix),
    ).fetchone()
    return str(row[0]) if row else None
