"""The kernel's table of connections: which there are, and ending some of them.

A flow whose entry is gone starts anew with its next packet: that goes where publications lead
now, or nowhere if nothing allows it. Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h,
net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import AsyncIterator, Collection, Iterable
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, AF_UNSPEC, IPPROTO_TCP, IPPROTO_UDP, inet_ntop
from typing import NamedTuple

from mizzen.model.network import Transport

from . import netlink
from .netlink import attribute, attributes, find, nested

TUPLE_ORIGINAL, TUPLE_REPLY = 1, 2
TUPLE_IP, TUPLE_PROTO = 1, 2
SOURCE4, DESTINATION4, SOURCE6, DESTINATION6 = 1, 2, 3, 4
"""Attributes within attributes, which the filter of events looks for too."""

NEW, GET, DELETE = 0x100, 0x101, 0x102
"""Messages: an entry that is new or has changed, asking, an entry that is gone."""

PROTOCOLS = {Transport.TCP: IPPROTO_TCP, Transport.UDP: IPPROTO_UDP}

_STATUS, _PROTOINFO, _ID, _ZONE, _FILTER = 3, 4, 12, 18, 25
_FILTER_ORIGINAL, _FILTER_REPLY = 1, 2
_BY_SOURCE, _BY_PROTOCOL, _BY_PORT = 1 << 0, 1 << 3, 1 << 5
_DESTINATION_TRANSLATED = 1 << 5
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_TCP, _TCP_STATE = 1, 1
_GENERIC = 4  # bytes of struct nfgenmsg
_PORT = struct.Struct("!H")


class Way(NamedTuple):
    """One direction of a flow. Ports are 0 where the protocol has none."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    protocol: int


class Flow(NamedTuple):
    """An entry of the table.

    original: as the first packet was sent. reply: as answers come. status: IPS_* bits.
    state: of TCP, TCP_CONNTRACK_*; None where it is not told. identity: what names the entry.
    """

    original: Way
    reply: Way
    status: int
    state: int | None
    identity: bytes

    @property
    def published(self) -> bool:
        """Whether it was led to another destination than it asked for."""
        return bool(self.status & _DESTINATION_TRANSLATED)


def decode(body: bytes) -> Flow | None:
    """Take an entry apart; None where something essential is missing."""
    held = attributes(body, _GENERIC)
    original, reply = (_way(held.get(kind, b"")) for kind in (TUPLE_ORIGINAL, TUPLE_REPLY))
    if original is None or reply is None:
        return None
    # By the reply, which tells where it leads. A client's port that is used again makes an entry
    # that has the same original and, in the same place of the kernel's memory, the same id.
    identity = body[:_GENERIC] + nested(TUPLE_REPLY, held[TUPLE_REPLY])
    for kind in (_ID, _ZONE):
        if kind in held:
            identity += attribute(kind, held[kind])
    status = int.from_bytes(held.get(_STATUS, b""), "big")
    return Flow(original, reply, status, _state(body), identity)


async def flows(
    version: int = 0,
    *,
    sources: Collection[str] = (),
    answering: str = "",
    protocol: int = 0,
    port: int = 0,
    without: Collection[int] = (),
) -> AsyncIterator[Flow]:
    """Yield entries, those that fit. Raises OSError.

    version: 4 or 6; 0 is both, and then only sources can be wanted.
    sources: send the first packet; none is any. answering: sends the answers.
    protocol, port: of the original destination; a port needs a protocol.
    without: states of TCP whose entries are left out.
    """
    source = next(iter(sources)) if version and len(sources) == 1 else ""
    body = _generic(version) + _filter(version, source, answering, protocol, port)
    senders = {ip_address(address).packed for address in sources}
    answerer = ip_address(answering).packed if answering else b""
    async for entry in netlink.dump(netlink.NETFILTER, GET, body):
        # Told apart before it is taken apart: there may be very many, and of a busy port most
        # have ended.
        if without and _state(entry) in without:
            continue
        if senders and _sender(entry, TUPLE_ORIGINAL) not in senders:
            continue
        if answerer and _sender(entry, TUPLE_REPLY) != answerer:
            continue
        flow = decode(entry)
        if (
            flow
            and protocol in {0, flow.original.protocol}
            and port in {0, flow.original.destination_port}
        ):
            yield flow


async def delete(unwanted: Iterable[Flow]) -> None:
    """Remove entries, those that are still there. Raises OSError."""
    with netlink.connect(netlink.NETFILTER) as connection:
        for flow in unwanted:
            try:
                await netlink.ask(connection, DELETE, flow.identity)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise


async def forget(addresses: Iterable[str]) -> None:
    """Remove every entry of flows from these addresses, or answered by them. Raises OSError."""
    for address in addresses:
        version = ip_address(address).version
        unwanted = [flow async for flow in flows(version, sources=[address])]
        unwanted += [flow async for flow in flows(version, answering=address)]
        await delete(unwanted)


def _generic(version: int) -> bytes:
    return bytes([{0: AF_UNSPEC, 4: AF_INET, 6: AF_INET6}[version], 0, 0, 0])


def _filter(version: int, source: str, answering: str, protocol: int, port: int) -> bytes:
    """Return what the kernel shall tell. It may tell more: before 5.8 it knows no filter."""
    if version == 6:
        # ctnetlink_filter_match_tuple() has the comparison of IPv6 addresses the wrong way round.
        source = answering = ""
    if not (source or answering or protocol):
        return b""
    by = (_BY_SOURCE if source else 0) | (_BY_PROTOCOL if protocol else 0)
    by |= _BY_PORT if port else 0
    flags, told = [], []
    if by:
        flags.append(attribute(_FILTER_ORIGINAL, struct.pack("=I", by)))
        told.append(nested(TUPLE_ORIGINAL, _ip(source), _proto(protocol, port)))
    if answering:
        flags.append(attribute(_FILTER_REPLY, struct.pack("=I", _BY_SOURCE)))
        told.append(nested(TUPLE_REPLY, _ip(answering)))
    return b"".join([*told, nested(_FILTER, *flags)])


def _ip(source: str) -> bytes:
    if not source:
        return b""
    address = ip_address(source)
    kind = SOURCE4 if address.version == 4 else SOURCE6
    return nested(TUPLE_IP, attribute(kind, address.packed))


def _proto(protocol: int, port: int) -> bytes:
    if not protocol:
        return b""
    destination = attribute(_DESTINATION_PORT, _PORT.pack(port)) if port else b""
    return nested(TUPLE_PROTO, attribute(_NUMBER, bytes([protocol])), destination)


def _state(body: bytes) -> int | None:
    told = find(find(find(body, _PROTOINFO, _GENERIC), _TCP), _TCP_STATE)
    return told[0] if told else None


def _sender(body: bytes, way: int) -> bytes:
    """Return the packed address that packets of one way come from, "" if none is told."""
    ip = find(find(body, way, _GENERIC), TUPLE_IP)
    return find(ip, SOURCE4) or find(ip, SOURCE6)


def _way(data: bytes) -> Way | None:
    held = attributes(data)
    ip, proto = attributes(held.get(TUPLE_IP, b"")), attributes(held.get(TUPLE_PROTO, b""))
    with contextlib.suppress(KeyError, ValueError, IndexError, struct.error):
        if SOURCE4 in ip:
            source = inet_ntop(AF_INET, ip[SOURCE4])
            destination = inet_ntop(AF_INET, ip[DESTINATION4])
        else:
            source = inet_ntop(AF_INET6, ip[SOURCE6])
            destination = inet_ntop(AF_INET6, ip[DESTINATION6])
        ports = [
            _PORT.unpack(proto[kind])[0] if kind in proto else 0
            for kind in (_SOURCE_PORT, _DESTINATION_PORT)
        ]
        return Way(source, ports[0], destination, ports[1], proto[_NUMBER][0])
    return None
