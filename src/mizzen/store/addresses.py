"""Addresses in the network daemon's database: ranges that are free, leases, gateways.

An address is 4 or 16 bytes, most significant first, so that bytes sort as addresses do; the
family, 4 or 6, stands beside it. Every search is one step down a B-tree, however many are taken.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from mizzen.model.network import Lease

SCHEMA = """
    CREATE TABLE free (                -- ranges that nobody holds, apart from each other
        family INTEGER NOT NULL,
        first BLOB NOT NULL,
        last BLOB NOT NULL,
        PRIMARY KEY (family, last)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE gateway (             -- first addresses of prefixes that have leases
        family INTEGER NOT NULL,
        address BLOB NOT NULL,
        leases INTEGER NOT NULL,
        PRIMARY KEY (family, address)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE lease (
        family INTEGER NOT NULL,
        address BLOB NOT NULL,
        tag TEXT NOT NULL,
        prefix TEXT NOT NULL,
        PRIMARY KEY (family, address),
        UNIQUE (tag, prefix)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO free VALUES
        (4, x'00000000', x'ffffffff'),
        (6, zeroblob(16), x'ffffffffffffffffffffffffffffffff')
    """

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses of one family from first to last, as numbers."""

    family: int
    first: int
    last: int


def _blob(family: int, number: int) -> bytes:
    return number.to_bytes(4 if family == 4 else 16)


def _text(family: int, blob: bytes) -> str:
    number = int.from_bytes(blob)
    return str(IPv4Address(number) if family == 4 else IPv6Address(number))


def _lease(row: tuple[int, bytes, str, str]) -> Lease:
    family, blob, tag, prefix = row
    return Lease(_text(family, blob), tag, prefix)


def free_from(connection: sqlite3.Connection, family: int, number: int) -> Range | None:
    """Return the first free range that ends at an address or after it; None if there is none."""
    row = connection.execute(
        "SELECT first, last FROM free WHERE family = ? AND last >= ? ORDER BY last LIMIT 1",
        (family, _blob(family, number)),
    ).fetchone()
    return Range(family, int.from_bytes(row[0]), int.from_bytes(row[1])) if row else None


def is_free(connection: sqlite3.Connection, family: int, number: int) -> bool:
    """Tell whether an address is neither leased nor a gateway."""
    found = free_from(connection, family, number)
    return found is not None and found.first <= number


def take(connection: sqlite3.Connection, family: int, number: int) -> None:
    """Take a free address out of its range."""
    found = free_from(connection, family, number)
    assert found is not None
    assert found.first <= number
    _remove(connection, found)
    for first, last in ((found.first, number - 1), (number + 1, found.last)):
        if first <= last:
            _insert(connection, Range(family, first, last))


def give_back(connection: sqlite3.Connection, family: int, number: int) -> None:
    """Make a taken address free; ranges that touch it become one with it."""
    first = last = number
    below = free_from(connection, family, number - 1)
    if below is not None and below.last == number - 1:
        _remove(connection, below)
        first = below.first
    above = free_from(connection, family, number + 1)
    if above is not None and above.first == number + 1:
        _remove(connection, above)
        last = above.last
    _insert(connection, Range(family, first, last))


def _remove(connection: sqlite3.Connection, one: Range) -> None:
    key = (one.family, _blob(one.family, one.last))
    connection.execute("DELETE FROM free WHERE family = ? AND last = ?", key)


def _insert(connection: sqlite3.Connection, one: Range) -> None:
    row = (one.family, _blob(one.family, one.first), _blob(one.family, one.last))
    connection.execute("INSERT INTO free VALUES (?, ?, ?)", row)


def hold_gateway(connection: sqlite3.Connection, family: int, number: int) -> bool:
    """Count one more lease of a gateway, whose address nobody gets; False if somebody has it."""
    counted = connection.execute(
        "UPDATE gateway SET leases = leases + 1 WHERE family = ? AND address = ?",
        (family, _blob(family, number)),
    )
    if counted.rowcount:
        return True
    if not is_free(connection, family, number):
        return False
    take(connection, family, number)
    connection.execute("INSERT INTO gateway VALUES (?, ?, 1)", (family, _blob(family, number)))
    return True


def drop_gateway(connection: sqlite3.Connection, family: int, number: int) -> None:
    """Count one lease less of a gateway; without any, its address is free."""
    key = (family, _blob(family, number))
    connection.execute(
        "UPDATE gateway SET leases = leases - 1 WHERE family = ? AND address = ?", key
    )
    ended = connection.execute(
        "DELETE FROM gateway WHERE family = ? AND address = ? AND leases = 0", key
    )
    if ended.rowcount:
        give_back(connection, family, number)


def add_lease(connection: sqlite3.Connection, lease: Lease, address: Address) -> None:
    """Write down who holds an address that was taken."""
    row = (address.version, address.packed, lease.tag, lease.prefix)
    connection.execute("INSERT INTO lease VALUES (?, ?, ?, ?)", row)


def remove_lease(connection: sqlite3.Connection, address: Address) -> None:
    """Forget who holds an address."""
    connection.execute(
        "DELETE FROM lease WHERE family = ? AND address = ?", (address.version, address.packed)
    )


def leases_of(connection: sqlite3.Connection, tag: str, prefix: str = "") -> list[Lease]:
    """Return what a tag holds, by prefix; of one prefix if it is not empty."""
    rows = connection.execute(
        "SELECT family, address, tag, prefix FROM lease"
        " WHERE tag = ?1 AND (?2 = '' OR prefix = ?2) ORDER BY prefix",
        (tag, prefix),
    )
    return [_lease(row) for row in rows]


def holder(connection: sqlite3.Connection, address: Address) -> Lease | None:
    """Return the lease of an address, None if nobody has it."""
    row = connection.execute(
        "SELECT family, address, tag, prefix FROM lease WHERE family = ? AND address = ?",
        (address.version, address.packed),
    ).fetchone()
    return _lease(row) if row else None


def leases_after(connection: sqlite3.Connection, after: Address | None, most: int) -> list[Lease]:
    """Return leases by address, IPv4 first, those after one."""
    key = (after.version, after.packed) if after is not None else (0, b"")
    rows = connection.execute(
        "SELECT family, address, tag, prefix FROM lease WHERE (family, address) > (?, ?)"
        " ORDER BY family, address LIMIT ?",
        (*key, most),
    )
    return [_lease(row) for row in rows]


def count(connection: sqlite3.Connection) -> int:
    """Return how many addresses are leased."""
    return int(connection.execute("SELECT count(*) FROM lease").fetchone()[0])
