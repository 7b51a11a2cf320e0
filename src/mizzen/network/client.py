"""Ask the network daemon.

A daemon that dies in the middle of a request is asked again: every request may be given twice. It
is waited for while its socket is there, since systemd, or whoever started it, starts it again.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mizzen.host import sockets
from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Edge, Lease, Link, Publication

from . import protocol
from .protocol import Call, Draining, Reply

PATIENCE = 30.0
"""Seconds that a daemon is waited for that has died or is starting."""

PAUSE = 0.05
"""Seconds until a socket that refused is tried again: it says nothing when it is back."""

ReplyT = TypeVar("ReplyT", bound=Reply)


class Network:
    """The network as a daemon at a socket keeps it. Every method raises Failure."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def status(self) -> protocol.Status:
        """Return who answers and how much they keep."""
        return await self._ask(protocol.GetStatus(), protocol.Status)

    async def request_address(self, tag: str, prefix: str, exclude: Sequence[str] = ()) -> Lease:
        """Return the tag's address of a prefix, a free one the first time."""
        request = protocol.RequestAddress(tag, prefix, tuple(exclude))
        return (await self._ask(request, protocol.Leased)).lease

    async def release_address(self, tag: str, prefix: str = "") -> None:
        """Give up a tag's address of a prefix, or all it has."""
        await self._ask(protocol.ReleaseAddress(tag, prefix), protocol.Done)

    async def addresses(self) -> AsyncIterator[Lease]:
        """Yield all leases, by address."""
        after = ""
        while True:
            page = (await self._ask(protocol.ListAddresses(after), protocol.Leases)).leases
            for lease in page:
                yield lease
            if not page:
                return
            after = page[-1].address

    async def open_link(
        self, machine: str, *, label: str = "", outward: bool = True, namespace: int | None = None
    ) -> tuple[Link, int | None]:
        """Make a machine's link; see ``protocol.OpenLink``. The caller owns the tap's descriptor.

        namespace: a descriptor of the network namespace that the machine's end is put into.
        """
        request = protocol.OpenLink(machine, label, outward)
        packet, descriptor = await self._exchange(request, namespace)
        try:
            link = _expected(packet, protocol.Opened).link
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        return link, descriptor

    async def close_link(self, machine: str) -> None:
        """End a machine's link, if there is one."""
        await self._ask(protocol.CloseLink(machine), protocol.Done)

    async def links(self) -> AsyncIterator[tuple[Link, bool]]:
        """Yield all links by number, each with whether its interface is there."""
        after = 0
        while True:
            page = await self._ask(protocol.ListLinks(after), protocol.Links)
            for link, up in zip(page.links, page.up, strict=True):
                yield link, up
            if not page.links:
                return
            after = page.links[-1].number

    async def open_cell(self, cell: Cell) -> int:
        """Make a cell and return its tap's descriptor, which the caller owns."""
        packet, descriptor = await self._exchange(protocol.OpenCell(cell), None)
        _expected(packet, protocol.Done)
        if descriptor is None:
            raise Failure(
                "cannot open a cell", "there is no room for its descriptor", "raise ulimit -n"
            )
        return descriptor

    async def publish(
        self,
        publications: Sequence[Publication],
        expect: Mapping[str, Publication | None] | None = None,
    ) -> None:
        """Set publications at one instant; see ``protocol.Publish``."""
        request = protocol.Publish(tuple(publications), dict(expect or {}))
        await self._ask(request, protocol.Done)

    async def unpublish(self, *names: str) -> None:
        """Remove publications, those that are there."""
        await self._ask(protocol.Unpublish(names), protocol.Done)

    async def publications(self) -> AsyncIterator[Publication]:
        """Yield all publications, by name."""
        after = ""
        while True:
            request = protocol.ListPublications(after)
            page = (await self._ask(request, protocol.Publications)).publications
            for publication in page:
                yield publication
            if not page:
                return
            after = page[-1].name

    async def allow(self, edge: Edge) -> None:
        """Declare an edge."""
        await self._ask(protocol.AllowEdge(edge), protocol.Done)

    async def deny(self, edge: Edge) -> None:
        """Take an edge back."""
        await self._ask(protocol.DenyEdge(edge), protocol.Done)

    async def edges(self) -> AsyncIterator[Edge]:
        """Yield all edges, in their order."""
        after: Edge | None = None
        while True:
            page = (await self._ask(protocol.ListEdges(after), protocol.Edges)).edges
            for edge in page:
                yield edge
            if not page:
                return
            after = page[-1]

    async def drain(self, targets: Sequence[str], seconds: float) -> AsyncIterator[Draining]:
        """Yield how many published connections to targets are open, until none or the deadline.

        Where the daemon dies meanwhile, the next one is asked for what is left of the time.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            connection = await self._connect()
            with contextlib.closing(connection):
                await _send(connection, protocol.Drain(tuple(targets), left), None)
                while packet := await self._next(connection, deadline + protocol.TIME_MAX):
                    seen = _expected(packet, Draining)
                    yield seen
                    if seen.done:
                        return
            if time.monotonic() > deadline + PATIENCE:
                raise _dies()

    @staticmethod
    async def _next(connection: socket.socket, deadline: float) -> bytes:
        """Return one more reply, empty if the daemon has gone."""
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                packet, descriptor = await _receive(connection)
        except TimeoutError as error:
            raise _silent() from error
        if descriptor is not None:
            os.close(descriptor)
        return packet

    async def _ask(self, request: protocol.AnyRequest, kind: type[ReplyT]) -> ReplyT:
        packet, descriptor = await self._exchange(request, None)
        if descriptor is not None:
            os.close(descriptor)
        return _expected(packet, kind)

    async def _exchange(
        self, request: protocol.AnyRequest, descriptor: int | None
    ) -> tuple[bytes, int | None]:
        deadline = time.monotonic() + PATIENCE
        while True:
            connection = await self._connect()
            try:
                async with asyncio.timeout(protocol.TIME_MAX + 1):
                    await _send(connection, request, descriptor)
                    packet, received = await _receive(connection)
            except TimeoutError as error:
                raise _silent() from error
            finally:
                connection.close()
            if packet:
                return packet, received
            if time.monotonic() > deadline:
                raise _dies()

    async def _connect(self) -> socket.socket:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return sockets.connect(self.path, socket.SOCK_SEQPACKET)
            except PermissionError as error:
                raise Failure(
                    "cannot reach the network daemon",
                    f"you may not open {self.path}",
                    "join its group, or run it with sudo",
                ) from error
            except OSError as error:
                # Refused: the socket is there, and for the moment nobody behind it. Blocking: too
                # many wait to be accepted.
                refused = isinstance(error, ConnectionRefusedError | BlockingIOError)
                if not refused or time.monotonic() > deadline:
                    raise Failure(
                        "cannot reach the network daemon",
                        f"nobody answers at {self.path}",
                        "run: sudo mizzen net daemon",
                    ) from error
            await asyncio.sleep(PAUSE)


def _silent() -> Failure:
    return Failure(
        "cannot reach the network daemon",
        f"it has not answered within {protocol.TIME_MAX:g} s",
        "see: journalctl -u mizzen-net",
    )


def _dies() -> Failure:
    return Failure(
        "cannot reach the network daemon",
        f"it has ended again and again for {PATIENCE:g} s",
        "see: journalctl -u mizzen-net",
    )


async def _send(
    connection: socket.socket, request: protocol.AnyRequest, descriptor: int | None
) -> None:
    packet = protocol.encode(Call(protocol.VERSION, request))
    if len(packet) > protocol.MESSAGE_MAX:
        raise Failure(
            "cannot ask the network daemon",
            f"the request has {len(packet)} bytes, more than {protocol.MESSAGE_MAX}",
            "ask for less at once",
        )
    ancillary = []
    if descriptor is not None:
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor])))
    # A message always fits into an empty socket's buffer, so this does not block. If the daemon
    # has died, the answer is missing, and that is what the caller looks at.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendmsg([packet], ancillary)


async def _receive(connection: socket.socket) -> tuple[bytes, int | None]:
    """Return a message and its descriptor; empty if the daemon has gone."""
    await sockets.readable(connection)
    try:
        packet, descriptors, _, _ = socket.recv_fds(
            connection, protocol.MESSAGE_MAX, 1, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return b"", None
    return packet, descriptors[0] if descriptors else None


def _expected(packet: bytes, kind: type[ReplyT]) -> ReplyT:
    reply = protocol.decode_reply(packet)
    if isinstance(reply, protocol.Refused):
        raise Failure(reply.what, reply.why, reply.fix)
    if not isinstance(reply, kind):
        raise Failure(
            "cannot read the network daemon's answer",
            f"it is of another kind ({type(reply).__name__})",
            "run the same version of Mizzen on both sides",
        )
    return reply
