"""Lease addresses to tags, in the same time however many are taken.

What is free is kept as ranges, so the lowest free address of a prefix is one look-up away, and
one more for each address or prefix that is excluded.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from mizzen.model.errors import Failure
from mizzen.model.network import Lease
from mizzen.store import addresses as store

EXCLUDES_MAX = 256
"""Addresses and prefixes that one request may exclude."""

LENGTHS = {4: (8, 30), 6: (64, 126)}
"""Shortest and longest prefix of each family."""

TAG_MAX = 255
"""Characters of a tag."""

# RFC 6890 and RFC 4291: what no host's interface has as an address that others send to.
_UNFIT = tuple(
    (ip_network(prefix), why)
    for prefix, why in (
        ("0.0.0.0/8", "is reserved"),
        ("127.0.0.0/8", "is loopback"),
        ("169.254.0.0/16", "is link-local"),
        ("224.0.0.0/4", "is multicast"),
        ("240.0.0.0/4", "is reserved"),
        ("::/8", "is reserved"),
        ("fe80::/10", "is link-local"),
        ("ff00::/8", "is multicast"),
    )
)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix that addresses are leased of.

    text: in canonical form. gateway: the host's address on links of it, as a number.
    first, last: lowest and highest address that may be leased, as numbers.
    """

    text: str
    family: int
    gateway: int
    first: int
    last: int

    @property
    def gateway_address(self) -> str:
        """The gateway as text."""
        return str(_address(self.family, self.gateway))


def _address(family: int, number: int) -> IPv4Address | IPv6Address:
    return IPv4Address(number) if family == 4 else IPv6Address(number)


def read_network(text: str, what: str) -> IPv4Network | IPv6Network:
    """Read ADDRESS/LENGTH, or ADDRESS alone. Raises Failure, which begins with what."""
    strange = Failure(
        what,
        f"{shortened(text)!r} is no prefix",
        "write ADDRESS/LENGTH, as in 10.70.0.0/24 or fd70::/64",
    )
    if not re.fullmatch(r"[0-9A-Fa-f:.]+(/\d{1,3})?", text):
        raise strange
    try:
        meant = ip_network(text, strict=False)
    except ValueError as error:
        raise strange from error
    try:
        return ip_network(text)
    except ValueError as error:
        raise Failure(
            what, f"{text} has bits set after its length", f"write {meant} if that is meant"
        ) from error


def shortened(text: str) -> str:
    """Return the beginning of what somebody else wrote, to be shown."""
    return text if len(text) <= 80 else f"{text[:80]}..."


def read_prefix(text: str) -> Prefix:
    """Read a prefix that addresses can be leased of. Raises Failure."""
    what = "cannot give an address"
    network = read_network(text, what)
    shortest, longest = LENGTHS[network.version]
    if not shortest <= network.prefixlen <= longest:
        long = network.prefixlen > longest
        raise Failure(
            what,
            f"{network} is too {'long' if long else 'short'} a prefix",
            f"give one from /{shortest} to /{longest}",
        )
    for unfit, why in _UNFIT:
        if unfit.version == network.version and unfit.overlaps(network):
            raise Failure(what, f"{unfit}, in {network}, {why}", "give a unicast prefix")
    zero, last = int(network.network_address), int(network.broadcast_address)
    # IPv6 has no broadcast; its address zero is the routers' anycast (RFC 4291, 2.6.1).
    highest = last - 1 if network.version == 4 else last
    return Prefix(str(network), network.version, zero + 1, zero + 2, highest)


def read_address(text: str, what: str) -> IPv4Address | IPv6Address:
    """Read an address that a host may have. Raises Failure, which begins with what."""
    shown = shortened(text)
    try:
        address = ip_address(text)
    except ValueError as error:
        raise Failure(what, f"{shown!r} is no address", "write an IPv4 or IPv6 address") from error
    mapped = isinstance(address, IPv6Address) and (address.ipv4_mapped or address.scope_id)
    if mapped or address.is_unspecified or address.is_multicast:
        raise Failure(what, f"{shown} is no host's own address", "write a unicast address")
    return address


class Addresses:
    """Leases in a database. What changes them belongs into a transaction of the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def request(self, tag: str, prefix: str, exclude: Sequence[str] = ()) -> Lease:
        """Return the tag's lease of a prefix: the one it has, or the lowest free address.

        Raises Failure.
        """
        check_tag(tag)
        wanted = read_prefix(prefix)
        what = f"cannot give an address of {wanted.text}"
        excluded = _ranges(exclude, wanted.family, what)
        for lease in store.leases_of(self._connection, tag, wanted.text):
            number = int(ip_address(lease.address))
            if any(first <= number <= last for first, last in excluded):
                raise Failure(
                    what,
                    f"{tag} has {lease.address}, which is excluded",
                    f"release it first: mizzen ip release {tag}",
                )
            return lease
        number = self._lowest(wanted, excluded, what)
        if not store.hold_gateway(self._connection, wanted.family, wanted.gateway):
            held = store.holder(self._connection, _address(wanted.family, wanted.gateway))
            assert held is not None
            raise Failure(
                what,
                f"its gateway {wanted.gateway_address} is an address of {held.tag}",
                "release that, or give another prefix",
            )
        address = _address(wanted.family, number)
        lease = Lease(str(address), tag, wanted.text)
        store.take(self._connection, wanted.family, number)
        store.add_lease(self._connection, lease, address)
        return lease

    def _lowest(self, wanted: Prefix, excluded: list[tuple[int, int]], what: str) -> int:
        number = wanted.first
        skip = iter(excluded)
        barrier = next(skip, None)
        while number <= wanted.last:
            free = store.free_from(self._connection, wanted.family, number)
            if free is None:
                break
            number = max(number, free.first)
            while barrier is not None and barrier[1] < number:
                barrier = next(skip, None)
            if barrier is None or number < barrier[0]:
                if number > wanted.last:
                    break
                return number
            number = barrier[1] + 1
        besides = " but what is excluded" if excluded else ""
        raise Failure(
            what, f"it is full: nothing is free{besides}", "release some, or give a larger prefix"
        )

    def release(self, tag: str, prefix: str = "") -> tuple[str, ...]:
        """Make free what a tag holds, of one prefix or all; return the addresses."""
        check_tag(tag)
        leases = self.held(tag, prefix)
        for lease in leases:
            address = ip_address(lease.address)
            store.remove_lease(self._connection, address)
            store.give_back(self._connection, address.version, int(address))
            of = read_prefix(lease.prefix)
            store.drop_gateway(self._connection, of.family, of.gateway)
        return tuple(lease.address for lease in leases)

    def held(self, tag: str, prefix: str = "") -> list[Lease]:
        """Return what a tag holds, of one prefix or all. Raises Failure if prefix is none."""
        text = str(read_network(prefix, "cannot find an address")) if prefix else ""
        return store.leases_of(self._connection, tag, text)

    def page(self, after: str, most: int) -> list[Lease]:
        """Return leases by address, those after one ("" from the first). Raises Failure."""
        start = read_address(after, "cannot list addresses") if after else None
        return store.leases_after(self._connection, start, most)

    def count(self) -> int:
        """Return how many addresses are leased."""
        return store.count(self._connection)


def check_tag(tag: str) -> None:
    """Raise Failure unless a tag can be written down and shown."""
    what = "cannot use this tag"
    if not tag:
        raise Failure(what, "it is empty", "name what the address is for")
    if len(tag) > TAG_MAX:
        raise Failure(what, f"it has {len(tag)} characters", f"give at most {TAG_MAX}")
    if not tag.isprintable():
        raise Failure(what, "it has characters that cannot be shown", "leave them out")


def _ranges(exclude: Sequence[str], family: int, what: str) -> list[tuple[int, int]]:
    """Return what is excluded of a family, as ranges in order."""
    if len(exclude) > EXCLUDES_MAX:
        raise Failure(
            what, f"{len(exclude)} are excluded", f"exclude at most {EXCLUDES_MAX}, or prefixes"
        )
    networks = (read_network(text, what) for text in exclude)
    return sorted(
        (int(one.network_address), int(one.broadcast_address))
        for one in networks
        if one.version == family
    )
