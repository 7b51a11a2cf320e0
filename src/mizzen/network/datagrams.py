"""UDP flows between a socket and a target that can be exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .streams import Target

IDLE = 60.0
"""Seconds without a packet after which a flow is forgotten."""

SIZE = 65536
"""Bytes of a datagram at most."""

AT_ONCE = 64
"""Datagrams taken in a row before others have their turn."""

_IP_PKTINFO = 8  # include/uapi/linux/in.h; the socket module does not name it
_ANCILLARY = socket.CMSG_SPACE(20)

Key = tuple[tuple[str | int, ...], bytes]
"""The client's address as the socket module has it, and the host's own that it wrote to."""


@dataclass(slots=True)
class _Flow:
    socket: socket.socket
    used: float


class Flows:
    """All flows of a relay: at most so many, of which the longest unused makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: OrderedDict[tuple[Datagrams, Key], _Flow] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._of)

    def take(self, owner: Datagrams, key: Key, target: Target) -> socket.socket | None:
        """Return the flow's socket, connected to the target; None if there can be none."""
        flow = self._of.get((owner, key))
        if flow is None:
            made = _connected(target)
            if made is None:
                return None
            if len(self._of) >= self._most:
                self._drop(next(iter(self._of)))
            flow = self._of[owner, key] = _Flow(made, 0.0)
            self._loop.add_reader(made, owner.answer, key, made)
        flow.used = self._loop.time()
        self._of.move_to_end((owner, key))
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE, self._sweep)
        return flow.socket

    def touch(self, owner: Datagrams, key: Key) -> None:
        """Note that a flow was used."""
        if flow := self._of.get((owner, key)):
            flow.used = self._loop.time()
            self._of.move_to_end((owner, key))

    def drop(self, owner: Datagrams, key: Key | None = None) -> None:
        """Forget a flow, or all of an owner's."""
        for which in [w for w in self._of if w[0] is owner and key in {None, w[1]}]:
            self._drop(which)

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
        for which in list(self._of):
            self._drop(which)

    def _drop(self, which: tuple[Datagrams, Key]) -> None:
        flow = self._of.pop(which)
        self._loop.remove_reader(flow.socket)
        flow.socket.close()

    def _sweep(self) -> None:
        """Forget what is idle; the one unused for longest comes first."""
        self._timer = None
        now = self._loop.time()
        while self._of:
            which, flow = next(iter(self._of.items()))
            if flow.used + IDLE > now:
                self._timer = self._loop.call_at(flow.used + IDLE, self._sweep)
                return
            self._drop(which)


class Datagrams:
    """Passes on what comes to a bound socket, which it owns, and the answers back."""

    def __init__(self, bound: socket.socket, target: Target, flows: Flows) -> None:
        self._target = target
        self._socket = bound
        self._flows = flows
        self._loop = asyncio.get_running_loop()
        # Answers come from the address that was written to, of the many that a host may have.
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._loop.add_reader(bound, self._repeat, self._take)

    @property
    def target(self) -> Target:
        """Where packets go."""
        return self._target

    @target.setter
    def target(self, target: Target) -> None:
        if target != self._target:
            self._target = target
            self._flows.drop(self)

    def answer(self, key: Key, flow: socket.socket) -> None:
        """Pass on what the target has sent in a flow."""
        self._repeat(lambda: self._give(key, flow))

    def close(self) -> None:
        """End it and its flows."""
        self._flows.drop(self)
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _repeat(self, step: Callable[[], bool]) -> None:
        for _ in range(AT_ONCE):
            if not step():
                return

    def _take(self) -> bool:
        """Pass one datagram on to the target; False if there was none."""
        try:
            data, ancillary, _, client = self._socket.recvmsg(SIZE, _ANCILLARY)
        except OSError:
            return False
        key = (client, _written_to(ancillary))
        if flow := self._flows.take(self, key, self._target):
            try:
                flow.send(data)
            except BlockingIOError:
                pass  # lost, as datagrams may be
            except OSError:
                self._flows.drop(self, key)
        return True

    def _give(self, key: Key, flow: socket.socket) -> bool:
        """Pass one datagram back to the client; False if there was none."""
        try:
            data = flow.recv(SIZE)
        except BlockingIOError:
            return False
        except OSError:
            self._flows.drop(self, key)  # the target refused: the client tries again, or not
            return False
        self._flows.touch(self, key)
        client, own = key
        with contextlib.suppress(OSError):
            self._socket.sendmsg([data], [_from(own)], 0, client)
        return True


def _connected(target: Target) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            made.settimeout(0)
            made.connect(target)
        except OSError:
            return None
        stack.pop_all()
    return made


def _written_to(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Return the host's own address that a datagram was sent to.

    struct in_pktinfo is an interface, an own address and the address in the header; struct
    in6_pktinfo an address and an interface.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return data[4:8]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return data[:16]
    return b""


def _from(own: bytes) -> tuple[int, int, bytes]:
    if len(own) == 16:
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, own + bytes(4)
    return socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + own.ljust(4, b"\0") + bytes(4)
