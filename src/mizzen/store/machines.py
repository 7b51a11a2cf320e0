"""Machines in the database."""

from __future__ import annotations

import sqlite3

import msgspec

from mizzen.model.machine import Machine

_encoder = msgspec.json.Encoder(enc_hook=str)


def _decode(record: str) -> Machine:
    return msgspec.json.decode(record, type=Machine, dec_hook=lambda kind, value: kind(value))


def save(connection: sqlite3.Connection, machine: Machine) -> None:
    """Write a machine over what was there under its name."""
    connection.execute(
        "INSERT INTO machine VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET record = excluded.record",
        (machine.spec.name, _encoder.encode(machine).decode()),
    )


def find(connection: sqlite3.Connection, name: str) -> Machine | None:
    """Return the machine of that name, None if there is none."""
    row = connection.execute("SELECT record FROM machine WHERE name = ?", (name,)).fetchone()
    return _decode(row[0]) if row else None


def everything(connection: sqlite3.Connection) -> list[Machine]:
    """Return all machines, by name."""
    rows = connection.execute("SELECT record FROM machine ORDER BY name")
    return [_decode(row[0]) for row in rows]


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Forget the machine of that name."""
    connection.execute("DELETE FROM machine WHERE name = ?", (name,))
