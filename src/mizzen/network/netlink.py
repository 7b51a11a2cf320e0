"""Messages of netlink: encoding them, taking them apart, asking and dumping.

For the kernel's conntrack and socket tables, which are long, and for cells, which are to be quick:
links go through pyroute2. Decoding never fails: what is cut short or makes no sense ends the list.
Source: netlink(7).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from typing import NamedTuple

NETFILTER = 12
"""The family of conntrack and nftables."""

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = 2
_DONE = 3
_REQUEST = 0x001
_ACK = 0x004
_DUMP = 0x300
_NESTED = 0x8000
_TYPE = 0x3FFF
# include/uapi/linux/rtnetlink.h: struct rtmsg, the place of rtm_type in it, RTA_DST, RTN_LOCAL.
_ROUTE = struct.Struct("=8BI")
_ROUTE_KIND, _TO, _LOCAL = 7, 1, 2
_NEW_ROUTE, _GET_ROUTE = 24, 26
_BUFFER = 1 << 16


class Message(NamedTuple):
    """A message without its header's length and port."""

    kind: int
    flags: int
    body: bytes


def attribute(kind: int, content: bytes) -> bytes:
    """Return one attribute."""
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(attributes))


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """Return the attributes from an offset on; of several of one kind the last."""
    found = {}
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size or start + length > len(data):
            break
        found[kind & _TYPE] = data[start + _ATTRIBUTE.size : start + length]
        start += length + (-length % 4)
    return found


def find(data: bytes, kind: int, start: int = 0) -> bytes:
    """Return the first attribute of a kind from an offset on, "" if there is none."""
    while start + _ATTRIBUTE.size <= len(data):
        length, one = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size or start + length > len(data):
            break
        if one & _TYPE == kind:
            return data[start + _ATTRIBUTE.size : start + length]
        start += length + (-length % 4)
    return b""


def messages(packet: bytes) -> Iterator[Message]:
    """Yield the messages in what one read gave."""
    start = 0
    while start + _HEADER.size <= len(packet):
        length, kind, flags, _, _ = _HEADER.unpack_from(packet, start)
        if length < _HEADER.size or start + length > len(packet):
            return
        yield Message(kind, flags, packet[start + _HEADER.size : start + length])
        start += length + (-length % 4)


def connect(family: int) -> socket.socket:
    """Return a socket that does not block, in the network namespace of this thread."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, family)
    netlink.bind((0, 0))
    return netlink


def join(netlink: socket.socket, group: int) -> None:
    """Have a socket told what a group is told. Raises OSError."""
    netlink.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)


async def dump(family: int, kind: int, body: bytes) -> AsyncIterator[bytes]:
    """Yield the bodies of all that a dump tells. Raises OSError."""
    loop = asyncio.get_running_loop()
    with connect(family) as netlink:
        netlink.send(_request(kind, _DUMP, body))
        while True:
            for message in messages(await loop.sock_recv(netlink, _BUFFER)):
                if message.kind in {_ERROR, _DONE}:
                    _raise_for(message)
                    return
                yield message.body


async def ask(netlink: socket.socket, kind: int, body: bytes, flags: int = 0) -> None:
    """Ask for something to be done, on a socket used for this alone. Raises OSError."""
    netlink.send(_request(kind, flags | _ACK, body))
    loop = asyncio.get_running_loop()
    for message in messages(await loop.sock_recv(netlink, _BUFFER)):
        if message.kind == _ERROR:
            _raise_for(message)


def is_own(address: str) -> bool:
    """Tell whether an address is this host's: whether its route is a local one. Raises OSError."""
    packed = ip_address(address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0) + attribute(_TO, packed)
    with connect(socket.NETLINK_ROUTE) as netlink:
        netlink.send(_request(_GET_ROUTE, 0, body))  # which is answered before it returns
        told = list(messages(netlink.recv(_BUFFER)))
    return any(one.kind == _NEW_ROUTE and one.body[_ROUTE_KIND] == _LOCAL for one in told)


def _request(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 1, 0) + body


def _raise_for(message: Message) -> None:
    if len(message.body) >= 4:
        number = -int.from_bytes(message.body[:4], sys.byteorder, signed=True)
        if number > 0:
            raise OSError(number, os.strerror(number))
