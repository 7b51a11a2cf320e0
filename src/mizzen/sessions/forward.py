"""Ports of the guest on the host, each connection a stream: the guest needs no network for it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mizzen.model.errors import Failure, UsageError

from . import requests
from .channel import FrameType
from .link import Link
from .stream import Stream

LOOPBACK = "127.0.0.1"
CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the guest, and where it appears: an address and a port of the host; 0: any."""

    guest_port: int
    host: str = LOOPBACK
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Forward:
        """Return what ``[HOST:]PORT:GUESTPORT`` says. Raises UsageError if it is malformed."""
        host, _, ports = text.rpartition(":")
        host, _, port = host.rpartition(":")
        if not (_is_port(port) and _is_port(ports) and int(ports)):
            raise UsageError(
                f"cannot forward {text}", "that is no pair of ports", "write [HOST:]PORT:GUESTPORT"
            )
        return cls(int(ports), host.strip("[]") or LOOPBACK, int(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 1 << 16


@asynccontextmanager
async def listening(
    link: Link, wanted: Forward, tell: Callable[[Failure], None]
) -> AsyncIterator[tuple[str, int]]:
    """Listen, and yield the address and port that lead to the guest's; connections end with it.

    tell: called with the reason for which a connection was closed at once, such as that nobody
    listens in the guest. Raises Failure if the host's address cannot be had.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _carry(link, wanted.guest_port, reader, writer)
        except Failure as failure:
            tell(failure)
        finally:
            tasks.discard(task)
            writer.transport.abort() if not writer.is_closing() else None

    try:
        server = await asyncio.start_server(accept, wanted.host, wanted.port, limit=CHUNK)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        fix = "choose another port" if error.errno == errno.EADDRINUSE else ""
        raise Failure(f"cannot listen on {wanted.host}:{wanted.port}", reason, fix) from error
    try:
        host, port, *_ = server.sockets[0].getsockname()
        yield host, port
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(
    link: Link, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes between one connection and the guest until both sides have ended."""
    what = f"cannot reach port {port} of the guest"
    stream = await link.open(FrameType.CONNECT, requests.connect(port), what)
    sending: asyncio.Task[None] | None = None
    try:
        await stream.receive()  # READY, or the reason why not
        sending = asyncio.create_task(_send(stream, reader))
        while (frame := await stream.receive()).kind != FrameType.EXIT:
            if frame.kind == FrameType.OUTPUT:
                writer.write(frame.payload)
                await writer.drain()
            elif frame.kind == FrameType.OUTPUT_END and writer.can_write_eof():
                writer.write_eof()
        writer.close()
    except (ConnectionError, OSError):
        pass  # whoever connected has gone
    finally:
        if sending is not None:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Failure):
                await sending
        if not stream.over:
            stream.cancel()


async def _send(stream: Stream, reader: asyncio.StreamReader) -> None:
    """Pass on what a connection says; one that breaks ends like one that is closed."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            await stream.send(data)
    stream.end_input()
