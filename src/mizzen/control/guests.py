"""A guest for programs: ``mizzen.attach``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mizzen.host.paths import folders
from mizzen.host.raw import raw
from mizzen.introspection import target as targets
from mizzen.introspection.inspection import Inspection
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.views.lists import Listing
from mizzen.introspection.views.log import Record
from mizzen.introspection.views.processes import Process
from mizzen.model.errors import Failure
from mizzen.model.progress import Report, silent
from mizzen.sessions import forward, session
from mizzen.sessions.copy import Copied
from mizzen.sessions.forward import LOOPBACK, Forward
from mizzen.sessions.local import Streams, terminal_size
from mizzen.sessions.session import Done, Session

from .attach import gather, held, resolve

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that has been entered. Everything may go on at the same time, in one event loop.

    name: what its user calls it. release: its kernel's, as ``uname -r`` says.
    Methods raise Failure, which says in one line what, why and what to do.
    """

    name: str
    release: str
    _session: Session
    _inspection: Inspection

    async def run(
        self,
        *command: str,
        input: bytes = b"",  # noqa: A002 - as subprocess calls it
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run a command to its end, in /guest, and return its status and what it wrote.

        input: what it reads on its standard input. environment: variables added to the usual
        ones. What it leaves in the background ends with it; cancelling the task ends it as well.
        """
        return await self._session.run(*command, input=input, environment=environment)

    async def shell(self, *command: str) -> int:
        """Give this process's terminal, or its pipes, to a command or a shell; return its status.

        SIGINT goes to the command; SIGTERM and SIGHUP raise ``Interrupted``. Only in the main
        thread.
        """
        interactive = os.isatty(0) and os.isatty(1)
        streams = Streams(0, 1, 2, terminal_size(0) if interactive else None)
        environment = {"TERM": os.environ.get("TERM", "dumb")} if interactive else {}
        with raw(0) if interactive else contextlib.nullcontext():
            return await self._session.shell(*command, streams=streams, environment=environment)

    async def processes(self) -> Listing[Process]:
        """Return the guest's processes, read from its memory: nothing runs there for it."""
        return await asyncio.to_thread(self._inspection.processes)

    async def log(self) -> Listing[Record]:
        """Return the guest kernel's log, oldest message first, read from its memory."""
        return await asyncio.to_thread(self._inspection.log)

    async def get(self, guest_path: str, path: Path, report: Report = silent) -> Copied:
        """Copy a file or a folder out of the guest; into ``path`` if that is a folder."""
        return await self._session.get(guest_path, path, report)

    async def put(self, path: Path, guest_path: str, report: Report = silent) -> Copied:
        """Copy a file or a folder into the guest; into ``guest_path`` if that is a folder there."""
        return await self._session.put(path, guest_path, report)

    def forward(
        self,
        guest_port: int,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        refused: Callable[[Failure], None] = lambda _: None,
    ) -> AbstractAsyncContextManager[tuple[str, int]]:
        """Let connections to a port here lead to one of the guest's, until the block ends.

        Yields the address and the port to connect to; port 0 takes a free one. refused: told why
        a connection was closed at once.
        """
        return forward.listening(self._session.link, Forward(guest_port, host, port), refused)


@asynccontextmanager
async def attach(
    target: str, *, tools: str | Path | None = None, guest_pid: int | None = None
) -> AsyncIterator[Guest]:
    """Enter a running guest, and leave it as it was at the end of the block.

    target: a machine's name, ``incident/ID``, or ``pid:N`` for anybody's hypervisor. tools: the
    programs to bring along: a folder or a tarball with a root file system, or an OCI image; by
    default what ``mizzen tools build`` made, else busybox. guest_pid: a process of the guest, by
    the number its initial namespace has for it, whose namespaces to join, such as a container's.

    Needs CAP_SYS_PTRACE, and keeps the privileges that the process has: see docs/python.md.
    Raises Failure that says why the guest cannot be entered.
    """
    where = await asyncio.to_thread(resolve, folders(), target)
    named = None if tools is None else str(tools)
    chosen = await gather(where, named, folders(), silent)
    with held(chosen) as luggage:
        async with (
            _in_thread(targets.opened(where.pid)) as guest,
            session.opened(guest, guest_pid=guest_pid) as opened,
        ):
            await opened.bring(luggage)
            inspection = Inspection(guest.kernel, where.name)
            yield Guest(where.name, guest.kernel.release, opened, inspection)


@asynccontextmanager
async def _in_thread(opening: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter a context that takes its time, and leave it whatever happens meanwhile."""
    entering = asyncio.ensure_future(asyncio.to_thread(opening.__enter__))
    try:
        entered = await asyncio.shield(entering)
    except BadAddress as error:
        raise Failure("cannot attach", f"what the guest tells leads nowhere: {error}") from error
    except asyncio.CancelledError:
        with contextlib.suppress(Failure, BadAddress):
            await entering
            opening.__exit__(None, None, None)
        raise
    try:
        yield entered
    finally:
        opening.__exit__(None, None, None)
