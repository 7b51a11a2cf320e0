"""TCP connections between a listening socket and a target that can be exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator

from mizzen.model.network import endpoint

from .protocol import Draining

Target = tuple[str, int]
"""Address and port."""

CONNECT = 10.0
"""Seconds that a target may take to accept."""

AT_ONCE = 64
"""Connections accepted in a row before others have their turn."""

PAUSE = 1.0
"""Seconds until accepting is tried again where this host has run out of something."""

REPORTS = 0.1
"""Seconds between two reports of a drain at least."""

_RESET = struct.pack("ii", 1, 0)


class End(asyncio.Protocol):
    """One end of a relayed connection: what is read here is written at the peer.

    It reads nothing before ``join``, and no faster than its peer takes it.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.lost = asyncio.Event()
        self._peer: End | None = None
        self._ended = False

    def join(self, peer: End) -> None:
        """Begin to read, for that peer."""
        self._peer = peer
        self.transport.resume_reading()

    def reset(self) -> None:
        """End it in a way that the other side takes for no proper end."""
        if not self.transport.is_closing():
            _reset_at_close(self.transport.get_extra_info("socket"))
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Pass data on."""
        assert self._peer is not None
        self._peer.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end of data on; the connection is over once both sides have ended."""
        assert self._peer is not None
        self._ended = True
        if self._peer._ended:
            self._peer.transport.close()
            return False
        self._peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Let the peer wait."""
        assert self._peer is not None
        self._peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the peer go on."""
        assert self._peer is not None
        self._peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """End the peer too, if this is no proper end."""
        self.lost.set()
        if self._peer is not None:
            self._peer.reset()


class Connections:
    """All connections of a relay: at most so many, counted by target."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[Target] = Counter()
        self._tasks: dict[asyncio.Task[None], tuple[socket.socket, Target]] = {}
        self._waiting: set[Listener] = set()
        self._changes: set[asyncio.Event] = set()

    @property
    def full(self) -> bool:
        """Whether no more may be begun."""
        return len(self._tasks) >= self._most

    def begin(self, client: socket.socket, target: Target) -> None:
        """Relay an accepted connection until its end."""
        task = asyncio.create_task(_relay(client, target))
        self._tasks[task] = client, target
        self._open[target] += 1
        self._tell()
        task.add_done_callback(self._over)

    def wait(self, listener: Listener) -> None:
        """Have a listener resumed when there is room again."""
        self._waiting.add(listener)

    def forget(self, addresses: tuple[str, ...]) -> None:
        """Reset all connections to these addresses."""
        for task, (_, (address, _)) in self._tasks.items():
            if address in addresses:
                task.cancel()

    def count(self, targets: tuple[str, ...]) -> int:
        """Return how many are open to targets, which are written as for ``protocol.Drain``."""
        return sum(
            number
            for (address, port), number in self._open.items()
            if address in targets or endpoint(address, port) in targets
        )

    async def drain(self, targets: tuple[str, ...], seconds: float) -> AsyncIterator[Draining]:
        """Yield how many are open to targets when that has changed, until none or the deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        changed = asyncio.Event()
        self._changes.add(changed)
        last = -1
        try:
            while True:
                changed.clear()
                number = self.count(targets)
                done = number == 0 or loop.time() >= deadline
                if done or number != last:
                    yield Draining(number, done)
                    last = number
                if done:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                        await asyncio.sleep(REPORTS)
        finally:
            self._changes.discard(changed)

    async def close(self) -> None:
        """Reset all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _over(self, task: asyncio.Task[None]) -> None:
        client, target = self._tasks.pop(task)
        client.close()  # also if the task was cancelled before it began
        self._open[target] -= 1
        if not self._open[target]:
            del self._open[target]
        self._tell()
        waiting, self._waiting = self._waiting, set()
        for listener in waiting:
            listener.resume()

    def _tell(self) -> None:
        for event in self._changes:
            event.set()


class Listener:
    """Accepts at a listening socket, which it owns, for a target that may be exchanged."""

    def __init__(self, listening: socket.socket, target: Target, connections: Connections) -> None:
        self.target = target
        self._socket = listening
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.resume()

    def resume(self) -> None:
        """Accept, if it is still open."""
        self._timer = None
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Listen no more; connections go on."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if self._connections.full:
                # The others wait in the kernel's queue.
                self._loop.remove_reader(self._socket)
                self._connections.wait(self)
                return
            try:
                client, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Out of descriptors or memory: the socket stays readable meanwhile.
                self._loop.remove_reader(self._socket)
                self._timer = self._loop.call_later(PAUSE, self.resume)
                return
            client.settimeout(0)
            self._connections.begin(client, self.target)


async def _relay(client: socket.socket, target: Target) -> None:
    loop = asyncio.get_running_loop()
    ends: list[End] = []
    try:
        async with asyncio.timeout(CONNECT):
            _, far = await loop.create_connection(End, *target)
        ends.append(far)
        _, near = await loop.connect_accepted_socket(End, client)
        ends.append(near)
        near.join(far)
        far.join(near)
        await near.lost.wait()
        await far.lost.wait()
    except (OSError, TimeoutError):
        pass  # the client sees a reset
    finally:
        for end in ends:
            end.reset()
        if len(ends) < 2:
            _reset_at_close(client)


def _reset_at_close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
