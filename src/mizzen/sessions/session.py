"""A session: what can be done in a guest that has been entered, all of it at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path

from mizzen.host import cpio
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.target import Guest
from mizzen.model.errors import Failure
from mizzen.model.progress import Report, silent

from . import channel, copy, forward, local, requests, room, serving
from .channel import Channel, FrameType
from .copy import Copied
from .forward import Forward
from .fuse.server import Server
from .inject import entry
from .inject.entry import Arrival
from .link import Link
from .local import Streams
from .requests import Ready, Size
from .room import Way
from .stream import PART, Stream, status_of
from .tools import Luggage

ENVIRONMENT = {
    "PATH": "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin",
    "HOME": "/root",
    "PS1": "\\h:\\w\\$ ",
}
SHELL = ["sh"]


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command. status: as a shell shows it, 128 and the number of a signal."""

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """A guest that has been entered. Made by ``opened``; not for several threads."""

    guest: Guest
    link: Link
    ready: Ready
    stack: AsyncExitStack

    async def bring(self, luggage: Luggage) -> None:
        """Put the tools into the session's root: copied, or served from here as they are used.

        Raises Failure if neither is possible.
        """
        folder = luggage.folder
        if folder is None:
            await self._copy(luggage)
            return
        way = room.way(
            size=folder.size,
            count=folder.count,
            available=self.ready.available,
            fuse=self.ready.fuse,
        )
        if way is Way.COPY:
            await self._copy(luggage)
            return
        server = Server(folder.descriptor, luggage.overlay())
        self.stack.callback(server.close)
        await self.stack.enter_async_context(serving.served(self.link, server.handle))

    async def _copy(self, luggage: Luggage) -> None:
        stream = await self.link.open(FrameType.TOOLS, b"", "cannot attach")
        done = await self.exchange(stream, cpio.archive(luggage.copied()))
        if done.status:
            raise Failure(stream.what, channel.printable(done.stderr), "bring smaller tools")

    async def start(
        self,
        arguments: list[str],
        *,
        environment: Mapping[str, str] | None = None,
        terminal: Size | None = None,
    ) -> Stream:
        """Start a command and return its stream. Raises Failure if it cannot be told.

        environment: added to ``ENVIRONMENT``. terminal: gives it a terminal of that size.
        """
        variables = [f"{k}={v}" for k, v in {**ENVIRONMENT, **(environment or {})}.items()]
        payload = requests.run(arguments, variables, terminal)
        return await self.link.open(FrameType.RUN, payload, "cannot run the command")

    async def run(
        self,
        *arguments: str,
        input: bytes = b"",  # noqa: A002 - as subprocess calls it
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command to its end. Raises Failure if the session ends before.

        input: what it reads on its standard input. environment: added to the usual one.
        What it left in the background ends with it; a task that is cancelled ends it as well.
        """
        stream = await self.start(list(arguments), environment=environment)
        return await self.exchange(stream, [input])

    async def shell(
        self, *command: str, streams: Streams, environment: Mapping[str, str] | None = None
    ) -> int:
        """Run a command, by default a shell, on descriptors of this process; return its status.

        Only in the main thread, since it takes signals; see ``local.connect``.
        """
        arguments = list(command) or SHELL
        stream = await self.start(arguments, environment=environment, terminal=streams.terminal)
        return await local.connect(stream, streams)

    async def get(self, guest_path: str, place: Path, report: Report = silent) -> Copied:
        """See ``copy.get``."""
        return await copy.get(self.link, guest_path, place, report)

    async def put(self, path: Path, guest_path: str, report: Report = silent) -> Copied:
        """See ``copy.put``."""
        return await copy.put(self.link, path, guest_path, report)

    def forward(
        self, wanted: Forward, tell: Callable[[Failure], None]
    ) -> AbstractAsyncContextManager[tuple[str, int]]:
        """See ``forward.listening``."""
        return forward.listening(self.link, wanted, tell)

    async def exchange(self, stream: Stream, data: Iterable[bytes]) -> Done:
        """Send data, take all that comes, and return it when the stream has ended."""

        async def send() -> None:
            waiting = bytearray()  # many small parts go as one
            for part in data:
                waiting += part
                if len(waiting) >= PART:
                    await stream.send(bytes(waiting))
                    waiting.clear()
            await stream.send(bytes(waiting))
            stream.end_input()

        sender = asyncio.create_task(send())
        output, errors = bytearray(), bytearray()
        try:
            while (frame := await stream.receive()).kind != FrameType.EXIT:
                if frame.kind == FrameType.OUTPUT:
                    output += frame.payload
                elif frame.kind == FrameType.ERRORS:
                    errors += frame.payload
            return Done(status_of(frame), bytes(output), bytes(errors))
        finally:
            sender.cancel()
            if not stream.over:
                stream.cancel()
            with contextlib.suppress(asyncio.CancelledError, Failure):
                await sender


@asynccontextmanager
async def opened(guest: Guest, *, guest_pid: int | None = None) -> AsyncIterator[Session]:
    """Start stage 2 in a guest; leave the guest as it was at the end, whatever happens.

    guest_pid: a process of the guest, as its initial namespace numbers it, whose namespaces the
    session joins. Raises Failure if it cannot be entered.
    """
    wanted = requests.setup(guest_pid, room.SHARE)
    token = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        with _believing("cannot attach"):
            arrival = await _start(guest, token)
            settling = asyncio.create_task(_settle(arrival))
            stack.push_async_callback(asyncio.wait, {settling})
            hello = channel.read_hello(arrival.hello)
            link = Link(guest, Channel(guest.kernel.memory, hello, token))
        stack.push_async_callback(link.close)
        link.post(FrameType.SETUP, 0, wanted)
        ready = requests.read_ready((await link.session.receive()).payload)
        yield Session(guest, link, ready, stack)


async def _start(guest: Guest, token: str) -> Arrival:
    """Run the injection in a thread, and let it put everything back when we are cancelled."""
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Failure("cannot attach", "it was interrupted")
        guest.check()

    work = asyncio.ensure_future(asyncio.to_thread(entry.start, guest.kernel, token, check))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(Failure):
            await work
        raise


async def _settle(arrival: Arrival) -> None:
    """Wait until stage 1 has left; a guest that is gone has nothing left."""
    with contextlib.suppress(Failure, BadAddress, OSError):
        await asyncio.to_thread(arrival.settle)


@contextmanager
def _believing(what: str) -> Iterator[None]:
    """Turn an address of the guest's that is none into a Failure."""
    try:
        yield
    except BadAddress as error:
        raise Failure(what, f"what the guest tells leads nowhere: {error}") from error
