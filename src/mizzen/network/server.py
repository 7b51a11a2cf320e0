"""Answer at a Unix socket: who may ask, how much, and for how long."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import sqlite3
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.host import sockets
from mizzen.model.errors import Failure

from . import protocol
from .keeper import Broken, Keeper

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 64
"""Connections at once; others wait in the socket's backlog."""

DRAINS_MAX = 256
"""Connections at once that wait for published connections to end; they are not of the above."""

DESCRIPTORS_MAX = 4
"""Descriptors that are taken in with a message, to be closed; one may be of use."""

TEXT_MAX = 1000
"""Characters of a part of a refusal, which may repeat what was asked."""

SO_PEERGROUPS = 59  # include/uapi/asm-generic/socket.h
GROUPS_BYTES = 1024  # as much as Python lets getsockopt return
NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h
CLONE_NEWNET = 0x40000000
BACKOFF = 0.1
"""Seconds until connections are accepted again where the system has no room for one."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may ask: root, the daemon's own user, and members of a group, if there is one."""

    group: int | None = None

    def check(self, connection: socket.socket) -> None:
        """Raise Failure unless whoever connected may ask.

        The kernel remembers whose the socket was when it was connected: socket(7), unix(7).
        """
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, uid, gid = struct.unpack("3i", credentials)
        if uid in {0, os.geteuid()} or self.group in {gid, *_groups(connection)}:
            return
        raise Failure(
            "cannot ask the network daemon",
            f"user {uid} is not of its group",
            "join the group mizzen, or run it with sudo",
        )


def _groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError:
        return ()  # more of them than fit
    return struct.unpack(f"{len(groups) // 4}I", groups)


@dataclass(slots=True)
class _Message:
    """What was received; empty is the end."""

    packet: bytes
    descriptors: list[int]
    cut: bool

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def request(self) -> tuple[protocol.AnyRequest, int | None]:
        """Return the request and the network namespace that came with it. Raises Failure."""
        what = "cannot read the request"
        if self.cut:
            raise Failure(
                what,
                f"it has more than {protocol.MESSAGE_MAX} bytes, or too many descriptors",
                "ask for less at once",
            )
        request = protocol.decode_call(self.packet)
        if not self.descriptors:
            return request, None
        if not isinstance(request, protocol.OpenLink) or len(self.descriptors) > 1:
            raise Failure(
                what, "descriptors came with it that it has no use for", "send none with it"
            )
        check_namespace(self.descriptors[0])
        return request, self.descriptors[0]


def check_namespace(descriptor: int) -> None:
    """Raise Failure unless a descriptor is of a network namespace, and not of this process's."""
    what = "cannot open a link"
    own = Path("/proc/self/ns/net").stat()
    status = os.fstat(descriptor)
    # The device first: what an ioctl's number means depends on it.
    if status.st_dev != own.st_dev or fcntl.ioctl(descriptor, NS_GET_NSTYPE) != CLONE_NEWNET:
        raise Failure(what, "the descriptor is no network namespace", "open one of /run/netns")
    if status.st_ino == own.st_ino:
        raise Failure(
            what, "the descriptor is the host's own network namespace", "give the machine its own"
        )


@dataclass(slots=True)
class Server:
    """Answers requests with a keeper, one change at a time."""

    keeper: Keeper
    guard: Guard = field(default_factory=Guard)
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _room: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(CONNECTIONS_MAX), init=False
    )
    _drains: int = field(default=0, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects, until cancelled; what was begun is brought to its end then.

        Raises Broken if the keeper does.
        """
        listener.settimeout(0)
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        accepting = asyncio.create_task(self._accept(listener, broken))
        try:
            await asyncio.wait({accepting, broken}, return_when=asyncio.FIRST_COMPLETED)
            (broken if broken.done() else accepting).result()
        finally:
            accepting.cancel()
            async with self._changing:
                for task in self._tasks:
                    task.cancel()
            await asyncio.gather(accepting, *self._tasks, return_exceptions=True)
            broken.cancel()

    async def restore(self) -> None:
        """Make what carries packets do what the database says again. Raises Failure."""
        async with self._changing:
            await self.keeper.begin()

    async def _accept(self, listener: socket.socket, broken: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._room.release()
                log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(BACKOFF)
                continue
            except BaseException:
                self._room.release()
                raise
            task = asyncio.create_task(self._attend(connection, broken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attend(self, connection: socket.socket, broken: asyncio.Future[None]) -> None:
        connection.settimeout(0)
        with connection, contextlib.ExitStack() as place:
            place.callback(self._room.release)
            # Too slow, gone, or not reading: dropped.
            with contextlib.suppress(TimeoutError, OSError):
                try:
                    while await self._answer_one(connection, place):
                        pass
                except Broken as error:
                    if not broken.done():
                        broken.set_exception(error)

    async def _answer_one(self, connection: socket.socket, place: contextlib.ExitStack) -> bool:
        """Receive a request and answer it; tell whether another may follow."""
        async with asyncio.timeout(protocol.TIME_MAX):
            message = await _receive(connection)
        with contextlib.closing(message):
            if not message.packet:
                return False
            try:
                # Only now: what is closed unread tells its sender of a reset, not of a refusal.
                self.guard.check(connection)
            except Failure as failure:
                _send(connection, _refusal(failure))
                return False
            descriptor = None
            try:
                with _explained():
                    request, namespace = message.request()
                    if isinstance(request, protocol.Drain):
                        await self._drain(connection, request, place)
                        return False
                    if isinstance(request, protocol.OpenCell):
                        descriptor = await self.keeper.open_cell(request.cell)
                        _send(connection, protocol.Done(), descriptor)
                        return True
                    async with self._turn():
                        reply, descriptor = await self.keeper.answer(request, namespace)
                        # Here, as a server that ends waits for this turn.
                        _send(connection, reply, descriptor)
            except Failure as failure:
                _send(connection, _refusal(failure))
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            return True

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(protocol.TIME_MAX):
                await self._changing.acquire()
        except TimeoutError as error:
            raise Failure(
                "cannot ask the network daemon", "it is busy with others' requests", "try again"
            ) from error
        try:
            yield
        finally:
            self._changing.release()

    async def _drain(
        self, connection: socket.socket, request: protocol.Drain, place: contextlib.ExitStack
    ) -> None:
        if self._drains >= DRAINS_MAX:
            raise Failure(
                "cannot wait for connections to end",
                f"{DRAINS_MAX} wait already",
                "try again when some have ended",
            )
        replies = self.keeper.drain(request)
        place.close()  # others may connect meanwhile
        self._drains += 1
        sending = asyncio.create_task(_send_all(connection, replies))
        leaving = asyncio.create_task(sockets.readable(connection))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._drains -= 1
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever goes wrong into a Failure, and log what nobody foresaw."""
    what = "cannot do what was asked"
    try:
        yield
    except (Failure, Broken):
        raise
    except sqlite3.Error as error:
        log.error("cannot write the database: %s", error)
        raise Failure(what, f"the database: {error}", "free some disk space") from error
    except Exception as error:
        log.exception("a request went wrong")
        raise Failure(
            what, f"{type(error).__name__}: {error}", "see: journalctl -u mizzen-net"
        ) from error


def _refusal(failure: Failure) -> protocol.Refused:
    return protocol.Refused(failure.what[:TEXT_MAX], failure.why[:TEXT_MAX], failure.fix[:TEXT_MAX])


async def _receive(connection: socket.socket) -> _Message:
    await sockets.readable(connection)
    packet, descriptors, flags, _ = socket.recv_fds(
        connection, protocol.MESSAGE_MAX, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
    )
    return _Message(packet, descriptors, bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)))


def _send(
    connection: socket.socket, reply: protocol.AnyReply, descriptor: int | None = None
) -> None:
    """Send a reply; whoever has left no room for it by not reading is not waited for: OSError."""
    ancillary = []
    if descriptor is not None:
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor])))
    connection.sendmsg([protocol.encode(reply)], ancillary)


async def _send_all(connection: socket.socket, replies: AsyncIterator[protocol.Draining]) -> None:
    async for reply in replies:
        _send(connection, reply)
