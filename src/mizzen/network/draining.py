"""Watch published connections to a target end, by the kernel's events.

A busy host has many other connections, so a filter in the kernel passes only events of the
targets'. Sources: include/uapi/linux/filter.h, net/core/filter.c (SKF_AD_NLATTR),
net/netfilter/nf_conntrack_proto_tcp.c (the states).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from mizzen.model.errors import Failure

from . import conntrack, netlink
from .conntrack import Flow
from .protocol import Draining

PACE = 0.1
"""Seconds between two reports at least."""

SETTLE = 0.1
"""Seconds that events are taken in at least before targets count as drained: a connection that was
being made at the time of a switch comes into the table after it, and perhaps behind the look."""

LOOK_AGAIN = 5.0
"""Seconds until the whole table is asked again: an entry that was made while nobody listened for
events never tells any."""

TARGETS_MAX = 64
"""Addresses that the kernel's filter can tell: a socket has 20 kB for it (net.core.optmem_max)."""

ENDED = frozenset({7, 8})
"""TIME_WAIT and CLOSE. A connection is open before: in SYN_SENT its opener waits for an answer, and
in FIN_WAIT, CLOSE_WAIT and LAST_ACK bytes may be on their way, or have to be sent again."""

NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)
"""A filter that passes no event."""

# NFNLGRP_CONNTRACK_UPDATE and DESTROY. For NEW the kernel would write a message about each
# connection of a busy host, and a target that is drained gets no new ones.
_CHANGES = (2, 3)
# NFNLGRP_CONNTRACK_EXP_NEW, of which there are hardly any: to hold DESTROY costs a tenth of the
# connections that a host can make.
_QUIET = 4
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_RECEIVE_BUFFER = 4 << 20
_ATTRIBUTES = 20  # of a message: behind its header and struct nfgenmsg
_PASS = 0xFFFF_FFFF

# Classic BPF.
_LOAD, _LOAD_X, _LOAD_BY_X, _LOAD_SAVED = 0x00, 0x01, 0x40, 0x60
_LOAD_NUMBER, _SAVE, _TO_X = 0x20, 0x02, 0x07
_GO, _IF_EQUAL, _RETURN = 0x05, 0x15, 0x06
_FIND, _FIND_WITHIN = 0xFFFF_F000 + 12, 0xFFFF_F000 + 16


class Target(NamedTuple):
    """Whose connections are meant. port: 0 is any."""

    address: str
    port: int


def parse_target(text: str) -> Target:
    """Read ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. Raises Failure."""
    try:
        with contextlib.suppress(ValueError):
            return Target(str(ip_address(text)), 0)
        address, _, port = text.rpartition(":")
        if not port.isascii() or not port.isdecimal() or not 0 < int(port) <= 65535:
            raise ValueError
        bare = address.removeprefix("[").removesuffix("]")
        if (":" in bare) != (address == f"[{bare}]"):
            raise ValueError
        return Target(str(ip_address(bare)), int(port))
    except ValueError:
        raise Failure(
            f"cannot drain {text!r}", "that names no target", "write ADDRESS or ADDRESS:PORT"
        ) from None


def program(addresses: Sequence[str]) -> bytes:
    """Return the filter that passes events of flows answered by one of these addresses.

    Where there are more than TARGETS_MAX, all events pass.
    """
    if len(addresses) > TARGETS_MAX:
        return _step(_RETURN, _PASS)
    packed = [ip_address(address).packed for address in addresses]
    six = _compare([one for one in packed if len(one) == 16])
    four = _compare([one for one in packed if len(one) == 4])
    steps = [
        _step(_LOAD, _ATTRIBUTES),
        *_find(_FIND, conntrack.TUPLE_REPLY),
        *_or_drop(),
        *_find(_FIND_WITHIN, conntrack.TUPLE_IP),
        *_or_drop(),
        _step(_SAVE, 0),
        *_find(_FIND_WITHIN, conntrack.SOURCE6),
        _step(_IF_EQUAL, 0, otherwise=1),
        _step(_GO, len(six)),
        *six,
        _step(_LOAD_SAVED, 0),
        *_find(_FIND_WITHIN, conntrack.SOURCE4),
        *_or_drop(),
        *four,
    ]
    return b"".join(steps)


def _step(code: int, value: int = 0, *, otherwise: int = 0) -> bytes:
    """Return an instruction. otherwise: how many to skip where a comparison does not hold."""
    return struct.pack("=HBBI", code, 0, otherwise, value)


def _find(how: int, kind: int) -> list[bytes]:
    """Look for an attribute: from the offset that is loaded on, or within the one there."""
    return [_step(_LOAD_X, kind), _step(_LOAD_NUMBER, how)]


def _or_drop() -> list[bytes]:
    return [_step(_IF_EQUAL, 0, otherwise=1), _step(_RETURN, 0)]


def _compare(addresses: Sequence[bytes]) -> list[bytes]:
    """Pass if the attribute that was found is one of these addresses, else drop."""
    steps = [_step(_TO_X)]
    for address in addresses:
        words = struct.unpack(f"!{len(address) // 4}I", address)
        for place, word in enumerate(words):
            steps.append(_step(_LOAD_BY_X, 4 + 4 * place))
            steps.append(_step(_IF_EQUAL, word, otherwise=2 * (len(words) - place) - 1))
        steps.append(_step(_RETURN, _PASS))
    return [*steps, _step(_RETURN, 0)]


@contextlib.contextmanager
def events(filtered: bytes, groups: Sequence[int] = _CHANGES) -> Iterator[socket.socket]:
    """Yield a socket that events of the table come to, those that a filter passes."""
    with netlink.connect(netlink.NETFILTER) as connection:
        code = ctypes.create_string_buffer(filtered)
        count = len(filtered) // len(NOTHING)
        described = struct.pack("@HP", count, ctypes.addressof(code))
        connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        for group in groups:
            netlink.join(connection, group)
        yield connection


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Let entries tell events that are made while the block lasts.

    The kernel makes entries able to only while somebody listens (nf_conntrack_events = 2).
    """
    with events(NOTHING, (_QUIET,)):
        yield


class _Table:
    """The open connections of targets."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = frozenset(targets)
        self.open: set[bytes] = set()

    async def look(self) -> None:
        """Ask the kernel for all."""
        found = set()
        for address in {target.address for target in self._targets}:
            version = ip_address(address).version
            tcp = conntrack.flows(
                version, answering=address, protocol=socket.IPPROTO_TCP, without=ENDED
            )
            async for flow in tcp:
                if self._meant(flow):
                    found.add(flow.identity)
        self.open = found

    async def follow(self, connection: socket.socket, until: float) -> None:
        """Take in what the kernel has told, and wait for it until a time at most."""
        try:
            async with asyncio.timeout_at(until):
                packet = await asyncio.get_running_loop().sock_recv(connection, 1 << 16)
        except TimeoutError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            await self.look()  # more came than there was room for
            return
        for message in netlink.messages(packet):
            self._take(message)
        await asyncio.sleep(0)  # others have their turn also while events come without end

    def _take(self, message: netlink.Message) -> None:
        flow = conntrack.decode(message.body)
        if flow is None or not self._meant(flow):
            return
        if message.kind == conntrack.DELETE or flow.state in ENDED:
            self.open.discard(flow.identity)
        elif flow.state is not None:
            self.open.add(flow.identity)

    def _meant(self, flow: Flow) -> bool:
        return (
            flow.published
            and flow.original.protocol == socket.IPPROTO_TCP
            and not self._targets.isdisjoint(
                (Target(flow.reply.source, 0), Target(flow.reply.source, flow.reply.source_port))
            )
        )


async def drain(targets: Sequence[str], seconds: float) -> AsyncIterator[Draining]:
    """Yield how many published connections to targets are open, until none or the deadline.

    The first at once, then at most one each PACE, and the last. Raises Failure.
    """
    table = _Table([parse_target(target) for target in targets])
    addresses = sorted({parse_target(target).address for target in targets})
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    told, spoke, looked = -1, -PACE, clock()
    try:
        with events(program(addresses)) as connection:
            await table.look()  # after the events were asked for, so that none is missed
            settled = clock() + SETTLE
            while True:
                now, number = clock(), len(table.open)
                done = (not number and now >= settled) or now >= deadline
                if done or (number != told and now >= spoke + PACE):
                    yield Draining(number, done)
                    if done:
                        return
                    told, spoke = number, now
                elif now >= looked + LOOK_AGAIN:
                    await table.look()
                    looked = clock()
                else:
                    report = deadline if number == told else spoke + PACE
                    until = min(deadline, looked + LOOK_AGAIN, report)
                    await table.follow(connection, until if number else min(until, settled))
    except OSError as error:
        raise Failure("cannot watch connections end", str(error), "run: mizzen doctor") from error
