"""Who listens at a port of this host already: the kernel's table of sockets.

Sources: sock_diag(7), include/uapi/linux/inet_diag.h.
"""

from __future__ import annotations

import pwd
import struct
from collections.abc import AsyncIterator
from ipaddress import IPv6Address, ip_address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP
from typing import NamedTuple

from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Transport

from . import netlink

_FAMILY = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20
_LISTEN, _UNCONNECTED = 1 << 10, 1 << 7  # bits of TCP_LISTEN, and of TCP_CLOSE, as UDP's are
_V6ONLY = 11  # INET_DIAG_SKV6ONLY
_REQUEST = struct.Struct("=BBBBI48x")
_MESSAGE = struct.Struct("=B3x2s2x16s40xII")
"""Of struct inet_diag_msg: the family, the port, the address, the user and the inode."""


class Listener(NamedTuple):
    """A socket that takes what is sent to a port of this host.

    address: "" is any. versions: of IP, 4 or 6 or both.
    """

    address: str
    versions: tuple[int, ...]
    port: int
    user: int
    inode: int


def decode(body: bytes) -> Listener | None:
    """Take a socket apart; None where the message is too short."""
    if len(body) < _MESSAGE.size:
        return None
    family, port, packed, user, inode = _MESSAGE.unpack_from(body)
    address = ip_address(packed[:4] if family == AF_INET else packed)
    versions: tuple[int, ...] = (address.version,)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address, versions = address.ipv4_mapped, (4,)
    elif netlink.attributes(body, _MESSAGE.size).get(_V6ONLY) == b"\0" and not int(address):
        versions = (4, 6)
    where = "" if address.is_unspecified else str(address)
    return Listener(where, versions, int.from_bytes(port, "big"), user, inode)


async def holder(forward: Forward) -> str:
    """Say who listens at a forward's port on this host, "" if nobody does. Raises Failure."""
    try:
        async for listener in _listeners(forward.transport):
            same = not listener.address or not forward.address
            same = same or ip_address(listener.address) == ip_address(forward.address)
            if same and listener.port == forward.port and forward.version in listener.versions:
                return _told(listener)
    except OSError as error:
        raise Failure(
            "cannot look who listens on this host", str(error), "run: mizzen doctor"
        ) from error
    return ""


async def _listeners(transport: Transport) -> AsyncIterator[Listener]:
    protocol, state = IPPROTO_TCP, _LISTEN
    if transport is Transport.UDP:
        protocol, state = IPPROTO_UDP, _UNCONNECTED
    for family in (AF_INET, AF_INET6):
        request = _REQUEST.pack(family, protocol, 0, 0, state)
        async for body in netlink.dump(_FAMILY, _BY_FAMILY, request):
            if listener := decode(body):
                yield listener


def _told(listener: Listener) -> str:
    try:
        name = pwd.getpwuid(listener.user).pw_name
    except KeyError:
        name = str(listener.user)
    return f"a process of user {name} (uid {listener.user}), socket {listener.inode}"
