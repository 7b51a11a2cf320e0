"""Links, publications and edges in the network daemon's database, which no other process has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from mizzen.model.network import Edge, Forward, Link, Publication, Transport

from . import addresses

MIGRATIONS = (
    addresses.SCHEMA
    + """;
    CREATE TABLE link (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- so that none is ever used again
        machine TEXT NOT NULL UNIQUE,
        record TEXT NOT NULL           -- model.network.Link as JSON
    ) STRICT;
    CREATE TABLE publication (
        name TEXT PRIMARY KEY,
        forwards TEXT NOT NULL         -- model.network.Forward as JSON, an array
    ) STRICT;
    CREATE TABLE edge (
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        transport TEXT NOT NULL,
        port INTEGER NOT NULL,
        PRIMARY KEY (source, target, transport, port)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""Scripts, in order; see ``store.database``. Append only."""

_forwards = msgspec.json.Decoder(tuple[Forward, ...])
_link = msgspec.json.Decoder(Link)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def next_number(connection: sqlite3.Connection) -> int:
    """Return the number that the next new link gets."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'link'").fetchone()
    return int(row[0]) + 1 if row else 1


def save_link(connection: sqlite3.Connection, link: Link) -> None:
    """Write a link over what was there under its number."""
    connection.execute(
        "INSERT INTO link VALUES (?, ?, ?)"
        " ON CONFLICT (number) DO UPDATE SET record = excluded.record",
        (link.number, link.machine, _json(link)),
    )


def remove_link(connection: sqlite3.Connection, number: int) -> None:
    """Forget a link."""
    connection.execute("DELETE FROM link WHERE number = ?", (number,))


def links(connection: sqlite3.Connection) -> list[Link]:
    """Return all links, by number."""
    rows = connection.execute("SELECT record FROM link ORDER BY number")
    return [_link.decode(record) for (record,) in rows]


def save_publications(connection: sqlite3.Connection, publications: Iterable[Publication]) -> None:
    """Write publications over what was there under their names."""
    connection.executemany(
        "INSERT INTO publication VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET forwards = excluded.forwards",
        [(one.name, _json(one.forwards)) for one in publications],
    )


def remove_publications(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Forget publications."""
    connection.executemany("DELETE FROM publication WHERE name = ?", [(name,) for name in names])


def publications(connection: sqlite3.Connection) -> list[Publication]:
    """Return all publications, by name."""
    rows = connection.execute("SELECT name, forwards FROM publication ORDER BY name")
    return [Publication(name, _forwards.decode(forwards)) for name, forwards in rows]


def add_edge(connection: sqlite3.Connection, edge: Edge) -> None:
    """Write down an edge."""
    row = (edge.source, edge.target, edge.transport, edge.port)
    connection.execute("INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?)", row)


def remove_edge(connection: sqlite3.Connection, edge: Edge) -> None:
    """Forget an edge."""
    connection.execute(
        "DELETE FROM edge WHERE source = ? AND target = ? AND transport = ? AND port = ?",
        (edge.source, edge.target, edge.transport, edge.port),
    )


def edges(connection: sqlite3.Connection) -> list[Edge]:
    """Return all edges."""
    rows = connection.execute("SELECT source, target, transport, port FROM edge")
    return [
        Edge(source, target, Transport(transport), port) for source, target, transport, port in rows
    ]
