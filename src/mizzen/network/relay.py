"""Publications without root: sockets of this process's own, and what they carry passed on.

A forward of any host address ("") answers at all addresses of both families, whatever family its
target is of; unless another forward of the same port has a target of the other family.

Connections end with this process; its listeners come back from the daemon's state.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Forward, Link, Transport

from . import listeners
from .datagrams import Datagrams, Flows
from .plane import Parts
from .protocol import Draining
from .streams import Connections, Listener, Target

CONNECTIONS_MAX = 8192
FLOWS_MAX = 1024
RESERVED = 512
"""Descriptors that are kept for listeners, the daemon's callers and the rest."""

BACKLOG = 1024

Place = tuple[int, str, int, Transport]
"""Where a socket is bound: 4 or 6, the address ("" is any), port, transport."""

_ANY = {4: "0.0.0.0", 6: "::"}

_log = logging.getLogger(__name__)


class RelayPlane:
    """Carries publications through sockets; a ``Plane``. It makes no links and knows no edges."""

    mode = "user"

    def __init__(self) -> None:
        self._forwards: frozenset[Forward] = frozenset()
        self._doors: dict[Place, Listener | Datagrams] = {}
        self._connections = Connections(_room())
        self.flows = Flows(FLOWS_MAX)

    async def begin(self, everything: Parts) -> None:
        """Listen for all publications.

        Where a port cannot be had that is told in the log, and the others are served: whoever
        publishes it again is told why.
        """
        self._forwards = _forwards(everything)
        wanted = _places(self._forwards)
        for place in set(self._doors) - set(wanted):
            self._doors.pop(place).close()
        for place, forward in wanted.items():
            try:
                self._serve({place: forward}, frozenset({forward}))
            except Failure as failure:
                _log.warning("%s", failure)

    async def change(self, before: Parts, after: Parts) -> None:
        """Bind what is new, or fail; then exchange all targets at one instant."""
        if set(after.links) - set(before.links) or set(after.edges) - set(before.edges):
            raise _no_links()
        added = _forwards(after)
        forwards = (self._forwards - _forwards(before)) | added
        wanted = _places(forwards)
        self._serve(wanted, added)
        for place in set(self._doors) - set(wanted):
            self._doors.pop(place).close()
        self._forwards = forwards

    async def open_link(self, link: Link, namespace: int | None) -> int | None:  # noqa: ARG002
        """Refuse."""
        raise _no_links()

    async def close_link(self, link: Link) -> None:
        """Do nothing: there is none."""

    async def open_cell(self, cell: Cell) -> int:  # noqa: ARG002
        """Refuse."""
        raise _no_links()

    async def up(self) -> frozenset[str]:
        """Return that there are none."""
        return frozenset()

    async def holder(self, forward: Forward) -> str:
        """Say who listens there, if somebody does."""
        for place, one in _places([forward]).items():
            if place in self._doors:
                continue
            try:
                _bound(place).close()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    family = one if one.version == place[0] else replace(one, target=_ANY[place[0]])
                    return await listeners.holder(family) or "another process"
        return ""

    async def forget(self, addresses: tuple[str, ...]) -> None:
        """Reset connections to these addresses."""
        self._connections.forget(addresses)

    def drain(self, targets: tuple[str, ...], seconds: float) -> AsyncIterator[Draining]:
        """Yield how many published connections to targets are open, until none or the deadline."""
        return self._connections.drain(targets, seconds)

    async def removed(self) -> None:
        """Wait for ever: nobody else can close what this process has open."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Stop listening and end all connections."""
        for door in self._doors.values():
            door.close()
        self._doors.clear()
        self.flows.close()
        await self._connections.close()

    def _serve(self, wanted: Mapping[Place, Forward], added: frozenset[Forward]) -> None:
        """Lead these places to their targets; bind those that are new and of what is added."""
        made: dict[Place, socket.socket] = {}
        with contextlib.ExitStack() as stack:
            for place, forward in wanted.items():
                if place not in self._doors and forward in added:
                    found = _opened(place, forward)
                    if found is not None:
                        made[place] = stack.enter_context(found)
            stack.pop_all()
        for place, forward in wanted.items():
            target = (forward.target, forward.target_port)
            if place in made:
                self._doors[place] = self._door(place, made[place], target)
            elif place in self._doors:
                self._doors[place].target = target

    def _door(self, place: Place, bound: socket.socket, target: Target) -> Listener | Datagrams:
        if place[3] is Transport.UDP:
            return Datagrams(bound, target, self.flows)
        return Listener(bound, target, self._connections)


def _forwards(parts: Parts) -> frozenset[Forward]:
    return frozenset(one for publication in parts.publications for one in publication.forwards)


def _places(forwards: Iterable[Forward]) -> dict[Place, Forward]:
    """Return where sockets are bound and which forward each serves."""
    found = {(one.version, one.address, one.port, one.transport): one for one in forwards}
    for (version, address, port, transport), one in list(found.items()):
        if not address:
            found.setdefault((10 - version, "", port, transport), one)
    return found


def _bound(place: Place) -> socket.socket:
    version, address, port, transport = place
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    stream = transport is Transport.TCP
    made = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        made.settimeout(0)
        if stream:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except BaseException:
        made.close()
        raise
    return made


def _opened(place: Place, forward: Forward) -> socket.socket | None:
    """Return a socket bound there, and listening; None where this host lacks a family besides."""
    what = f"cannot publish port {forward}"
    try:
        made = _bound(place)
    except OSError as error:
        if error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            if forward.version != place[0]:
                return None
            why, fix = f"this host has no address {forward.address or 'of that family'}", ""
        elif error.errno == errno.EADDRINUSE:
            why, fix = "another process listens there", "end that, or choose another port"
        elif error.errno == errno.EACCES:
            first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
            why = f"ports below {first} are kept for root"
            setting = f"net.ipv4.ip_unprivileged_port_start={place[2]}"
            fix = f"choose another, or run: sudo sysctl {setting}"
        else:
            why, fix = os.strerror(error.errno or 0), ""
        raise Failure(what, why, fix) from error
    if place[3] is Transport.TCP:
        made.listen(BACKLOG)
    return made


def _no_links() -> Failure:
    return Failure(
        "cannot make links or edges",
        "the network daemon runs without root",
        "run: sudo mizzen net daemon",
    )


def _room() -> int:
    """Return how many connections there may be, by the descriptors that this process may have.

    It is read from proc(5), since the daemon's filter of system calls allows no prlimit.
    """
    found = re.search(
        r"^Max open files +(\d+)", Path("/proc/self/limits").read_text(), re.MULTILINE
    )
    limit = int(found[1]) if found else 1024
    return max(16, min(CONNECTIONS_MAX, (limit - FLOWS_MAX - RESERVED) // 2))
