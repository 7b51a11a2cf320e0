"""Addresses, links, cells, publications and edges: what the network should be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address


class Transport(StrEnum):
    """What ports are ports of."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that a tag holds until it is released.

    address: without a prefix's length. prefix: in canonical form, the one it was asked for of.
    """

    address: str
    tag: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Link:
    """A machine's link to the host: one end is the machine's, the other the host's.

    number: never used again; the host's end is called after it. machine: whose it is.
    label: what edges name it by: the machine's service, or the machine.
    addresses: the machine's own, IPv4 or IPv6, at most one of each.
    gateways: the host's, one for each of the addresses, on the same link.
    mac: the machine's own. outward: whether it may begin conversations with others than edges
    allow: with the outside, and with publications.
    """

    number: int
    machine: str
    label: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mac: str
    outward: bool = True

    @property
    def interface(self) -> str:
        """Name of the host's end, 15 characters at most."""
        return f"{INTERFACE_PREFIX}{self.number}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What a machine without a way out finds at the other end of its link: its gateways, no more.

    addresses, gateways, mac: as a link's, and any number of cells and links may have the same.
    """

    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mac: str


INTERFACE_PREFIX = "mizzen-"
"""Interfaces whose names begin so are the network daemon's."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A host's port that leads to a machine's.

    address: of the host, of the target's family; "" is each that the host has.
    target: a machine's address.
    """

    address: str
    port: int
    transport: Transport
    target: str
    target_port: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.target).version

    def __str__(self) -> str:
        return f"{endpoint(self.address, self.port)}/{self.transport}".removeprefix(":")


def endpoint(address: str, port: int) -> str:
    """Return ADDRESS:PORT, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Publication:
    """Forwards that belong together, by name: a service's."""

    name: str
    forwards: tuple[Forward, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """Links of one label may reach a port of links of another label."""

    source: str
    target: str
    transport: Transport
    port: int
