"""A command of a session on this process's own terminal, pipes or files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .channel import FrameType
from .escape import Escape
from .requests import Size
from .stream import Stream, status_of

LEFT = 255
"""Status of a command that the user left running by the escape, as ssh has it."""


class Interrupted(Exception):  # noqa: N818 - it is what happened
    """The user, or whoever ends processes, wants this process to end."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Where input comes from and output goes to: file descriptors.

    terminal: the size of the terminal that all three are; None for pipes and files.
    """

    input: int
    output: int
    errors: int
    terminal: Size | None = None


def terminal_size(file: int) -> Size:
    """Return the size of the terminal that a file descriptor is."""
    size = os.get_terminal_size(file)
    return Size(size.lines, size.columns)


async def connect(stream: Stream, streams: Streams) -> int:
    """Pass bytes and signals between a command and this process; return the command's status.

    SIGINT goes to the command. SIGTERM, SIGHUP and a terminal that was hung up end the session:
    raises Interrupted.
    Raises Failure if the session ends before the command.
    """
    escape = Escape()
    with _signals(stream, streams) as interrupted:
        feeding = asyncio.create_task(_feed(stream, streams, escape))
        showing = asyncio.create_task(_show(stream, streams))
        ways = [feeding, showing, asyncio.create_task(_until(interrupted))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and not showing.done() and not interrupted.is_set():
                feeding.result()
                if not escape.left:
                    await asyncio.wait(ways[1:], return_when=asyncio.FIRST_COMPLETED)
            if interrupted.is_set():
                raise Interrupted
            return showing.result() if showing.done() else LEFT
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            if not stream.over:
                stream.cancel()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _feed(stream: Stream, streams: Streams, escape: Escape) -> None:
    """Pass input on until it ends, or the user leaves."""
    async with _ready(streams.input, reading=True) as ready:
        while not escape.left and (room := await stream.writable()):
            await ready()
            try:
                data = os.read(streams.input, room)
            except OSError:  # a terminal that was hung up
                data = b""
            if streams.terminal is not None:
                if not data:
                    raise Interrupted  # nobody is there; a raw terminal has no end of input
                data = escape.filter(data)
            elif not data:
                stream.end_input()
                return
            await stream.send(data)


async def _show(stream: Stream, streams: Streams) -> int:
    """Write what comes until the command has ended, and return its status."""
    async with (
        _ready(streams.output, reading=False) as output,
        _ready(streams.errors, reading=False) as errors,
    ):
        while (frame := await stream.receive()).kind != FrameType.EXIT:
            if frame.kind == FrameType.OUTPUT:
                await _write(streams.output, frame.payload, output)
            elif frame.kind == FrameType.ERRORS:
                await _write(streams.errors, frame.payload, errors)
        return status_of(frame)


async def _write(file: int, data: bytes, ready: Callable[[], Awaitable[None]]) -> None:
    """Write all of it, however long the reader pauses."""
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    view = memoryview(data)
    while view:
        if poll.poll(0):
            view = view[os.write(file, view[: select.PIPE_BUF]) :]  # so much never blocks
        else:
            await ready()


@contextlib.asynccontextmanager
async def _ready(file: int, *, reading: bool) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Yield what waits until a descriptor is ready; a file, which epoll refuses, always is."""
    loop = asyncio.get_running_loop()
    add = loop.add_reader if reading else loop.add_writer
    remove = loop.remove_reader if reading else loop.remove_writer

    async def wait() -> None:
        future: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            if not future.done():
                future.set_result(None)

        try:
            add(copy, done)
        except PermissionError:
            await asyncio.sleep(0)
            return
        try:
            await future
        finally:
            remove(copy)

    copy = os.dup(file)  # descriptors 0 to 2 may all be one, which epoll watches but once
    try:
        yield wait
    finally:
        os.close(copy)


@contextmanager
def _signals(stream: Stream, streams: Streams) -> Iterator[asyncio.Event]:
    """Pass signals on to the command; yield the event of those that end the session."""
    loop = asyncio.get_running_loop()
    interrupted = asyncio.Event()
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def resize() -> None:
        if streams.terminal is not None:
            stream.post(FrameType.RESIZE, terminal_size(streams.input).pack())

    handlers = {
        signal.SIGWINCH: resize,
        signal.SIGINT: lambda: stream.signal(signal.SIGINT),
        signal.SIGTERM: interrupted.set,
        signal.SIGHUP: interrupted.set,
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield interrupted
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        for number, action in before.items():
            signal.signal(number, action)
