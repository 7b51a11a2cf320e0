"""Whether the network daemon's answers, its acknowledgements and the kernel say the same."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.process import run
from mizzen.model.network import INTERFACE_PREFIX, Link, Publication
from mizzen.network import plan
from mizzen.network.client import Network
from mizzen.network.plane import Parts

Held: TypeAlias = frozenset[tuple[str, ...]]

_Scalar: TypeAlias = str | int


class _Concat(msgspec.Struct):
    concat: list[_Scalar]


_Key: TypeAlias = _Scalar | _Concat


class _Place(msgspec.Struct):
    """A set or a map as nft tells it."""

    name: str
    elem: list[_Key | list[_Key]] = []


class _Entry(msgspec.Struct):
    set: _Place | None = None
    map: _Place | None = None


class _Listing(msgspec.Struct):
    nftables: list[_Entry]


@dataclass(frozen=True, slots=True)
class Discord:
    """What differs; all are 0 where nothing was lost.

    lost: addresses that were acknowledged and are not held. doubled: those that two tags hold.
    publications: acknowledged and otherwise now, or not acknowledged and there.
    stale: elements of the kernel's table that the daemon knows nothing of, and links' interfaces.
    missing: elements, and interfaces, that the kernel lacks.
    """

    lost: int = 0
    doubled: int = 0
    publications: int = 0
    stale: int = 0
    missing: int = 0

    def __add__(self, other: Discord) -> Discord:
        return Discord(
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.publications + other.publications,
            self.stale + other.stale,
            self.missing + other.missing,
        )


def listed(output: bytes) -> Held:
    """Return the elements in nft's listing of a table: the place and the words of each."""
    found = set()
    for entry in msgspec.json.decode(output, type=_Listing).nftables:
        place = entry.set or entry.map
        if place is None:
            continue
        for element in place.elem:
            keys = element if isinstance(element, list) else [element]
            found.add((place.name, *(word for key in keys for word in _words(key))))
    return frozenset(found)


def _words(key: _Key) -> list[str]:
    return [str(word) for word in (key.concat if isinstance(key, _Concat) else [key])]


def wanted(parts: Parts) -> Held:
    """Return the elements that a table should have for links and publications, in the same form."""
    return frozenset(
        (one.place, *_split(one.key), *(_split(one.value) if one.value else ()))
        for one in plan.elements(parts)
    )


def _split(text: str) -> list[str]:
    return [word.strip('"') for word in text.split(" . ")]


async def kernel(where: NetworkNamespace) -> Held:
    """Return the elements of the daemon's table in a network namespace."""
    command = where.inside("nft", "-j", "list", "table", *plan.TABLE.split())
    return listed((await run(*command, what="cannot read the kernel's rules")).stdout)


async def discord(
    network: Network,
    where: NetworkNamespace,
    addresses: Mapping[str, str],
    publications: Mapping[str, Publication],
) -> Discord:
    """Compare what the daemon has acknowledged, what it says now, and the kernel.

    addresses: by tag. Nobody else changes anything meanwhile.
    """
    leases = [lease async for lease in network.addresses()]
    held = {lease.tag: lease.address for lease in leases}
    said = [(link, up) async for link, up in network.links()]
    links: tuple[Link, ...] = tuple(link for link, _ in said)
    there = {one.name: one async for one in network.publications()}
    edges = tuple([edge async for edge in network.edges()])
    rules = wanted(Parts(links, tuple(there.values()), edges))
    carried = await kernel(where)
    interfaces = {link.interface for link, up in said if up}
    with where.entered():
        seen = {name for _, name in socket.if_nameindex() if name.startswith(INTERFACE_PREFIX)}
    names = {*publications, *there}
    return Discord(
        lost=sum(1 for tag, address in addresses.items() if held.get(tag) != address),
        doubled=sum(n - 1 for n in Counter(lease.address for lease in leases).values()),
        publications=sum(1 for name in names if publications.get(name) != there.get(name)),
        stale=len(carried - rules) + len(seen - interfaces),
        missing=len(rules - carried) + len(interfaces - seen),
    )
