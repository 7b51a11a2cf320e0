"""Cells: network namespaces with a tap in each that leads to a gateway, and no further.

A few are made before they are asked for. A cell has no name and no state: it is there while
somebody holds the tap that was handed out. The host's end is as a link's, so a copy of a machine
does not notice. Sources: rtnetlink(7), include/uapi/linux/{if_link,rtnetlink,neighbour}.h.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from mizzen.host import namespaces
from mizzen.model.errors import Failure
from mizzen.model.network import Cell

from . import netlink
from .links import HOST_MAC
from .maker import CELLS_MAX, Made, Maker
from .netlink import attribute, nested

READY = 4
"""Network namespaces that are kept ready."""

_log = logging.getLogger(__name__)

_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE, _NEW_NEIGHBOUR = 16, 20, 24, 28  # RTM_NEW*
_CREATE = 0x400  # NLM_F_CREATE
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=4BI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_UP = 0x1  # IFF_UP
_LINK_ADDRESS, _LINK_FAMILIES = 1, 26  # IFLA_ADDRESS, IFLA_AF_SPEC
_CONF4, _FORWARDING = 1, 1  # IFLA_INET_CONF, IPV4_DEVCONF_FORWARDING
_GENERATE6, _NONE = 8, 1  # IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE
_PLAIN, _LOCAL = 1, 2  # IFA_ADDRESS, IFA_LOCAL
_NODAD = 0x02  # IFA_F_NODAD
_TO, _BY = 1, 4  # RTA_DST, RTA_OIF
_MAIN, _STATIC, _LINK_SCOPE, _UNICAST = 254, 4, 253, 1  # RT_TABLE_MAIN, RTPROT_STATIC, ...
_OF, _AT = 1, 2  # NDA_DST, NDA_LLADDR
_PERMANENT = 0x80  # NUD_PERMANENT


class Cells:
    """Hands out cells."""

    def __init__(self, maker: Maker) -> None:
        """Begin to make the first ones."""
        self._maker = maker
        self._ready: deque[Made] = deque()
        self._making: asyncio.Task[None] | None = None
        self._refill()

    async def open(self, cell: Cell) -> int:
        """Make a cell and return its tap, which the caller owns. Raises Failure."""
        with _explained():
            made = await self._take()
            with contextlib.closing(made.routes):
                try:
                    await _set_up(made, cell)
                except BaseException:
                    os.close(made.tap)
                    raise
            return made.tap

    def close(self) -> None:
        """Let go of those that nobody has asked for."""
        if self._making is not None:
            self._making.cancel()
        while self._ready:
            self._ready.pop().close()

    async def _take(self) -> Made:
        while not self._ready:
            await asyncio.shield(self._make())
        made = self._ready.popleft()
        self._refill()
        return made

    def _refill(self) -> None:
        if len(self._ready) < READY:
            self._make()

    def _make(self) -> asyncio.Task[None]:
        """Return the task that makes one more, the only one at a time."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._add())
            self._making.add_done_callback(self._added)
        return self._making

    async def _add(self) -> None:
        self._ready.append(await self._maker.make())

    def _added(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._refill()
        else:  # tried again by whoever asks next
            _log.warning("cannot keep cells ready: %s", error)


async def _set_up(made: Made, cell: Cell) -> None:
    """Give the host's end of a tap what a link's has."""
    index, routes = made.index, made.routes
    families = [nested(socket.AF_INET, nested(_CONF4, attribute(_FORWARDING, bytes(4))))]
    if _has_ipv6():
        families.append(nested(socket.AF_INET6, attribute(_GENERATE6, bytes([_NONE]))))
    body = _LINK.pack(0, 0, index, 0, 0)
    body += attribute(_LINK_ADDRESS, _mac(HOST_MAC)) + nested(_LINK_FAMILIES, *families)
    await netlink.ask(routes, _NEW_LINK, body)
    for gateway in cell.gateways:
        family, packed, bits = _parts(gateway)
        flags = _NODAD if family == socket.AF_INET6 else 0
        body = _ADDRESS.pack(family, bits, flags, 0, index)
        body += attribute(_LOCAL, packed) + attribute(_PLAIN, packed)
        await netlink.ask(routes, _NEW_ADDRESS, body, _CREATE)
    await netlink.ask(routes, _NEW_LINK, _LINK.pack(0, 0, index, _UP, _UP))
    for address in cell.addresses:
        family, packed, bits = _parts(address)
        scope = _LINK_SCOPE if family == socket.AF_INET else 0
        body = _ROUTE.pack(family, bits, 0, 0, _MAIN, _STATIC, scope, _UNICAST, 0)
        body += attribute(_TO, packed) + attribute(_BY, struct.pack("=I", index))
        await netlink.ask(routes, _NEW_ROUTE, body, _CREATE)
        body = _NEIGHBOUR.pack(family, index, _PERMANENT, 0, 0)
        body += attribute(_OF, packed) + attribute(_AT, _mac(cell.mac))
        await netlink.ask(routes, _NEW_NEIGHBOUR, body, _CREATE)


def _has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def _parts(address: str) -> tuple[int, bytes, int]:
    """Return an address's family, its bytes, and how many bits these are."""
    packed = ip_address(address).packed
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed, 8 * len(packed)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    what = "cannot open a cell"
    try:
        yield
    except OSError as error:
        again = "restart the daemon: systemctl restart mizzen-net"
        refused = error.errno in {errno.EPERM, errno.ENOSPC}
        if refused and (setting := namespaces.forbidding()):
            name = setting.partition("=")[0]
            fix = f"run: sudo sysctl {setting}, and {again}"
            raise Failure(what, f"{name} is 0", fix) from error
        if isinstance(error, ConnectionError):
            raise Failure(what, "the process that makes them has ended", again) from error
        if error.errno == errno.ENOSPC:
            why = f"there are {CELLS_MAX}, or user.max_net_namespaces of all kinds, already"
            raise Failure(what, why, "end machines that have one") from error
        raise Failure(what, str(error), "run: mizzen doctor") from error
