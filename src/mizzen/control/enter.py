"""One session of the command line: what a user asked for, done in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mizzen.host import capabilities
from mizzen.host.capabilities import Capability
from mizzen.introspection import target
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.target import Guest
from mizzen.model.errors import Failure
from mizzen.model.progress import Report
from mizzen.sessions import session
from mizzen.sessions.copy import Copied
from mizzen.sessions.forward import Forward
from mizzen.sessions.local import Interrupted, Streams
from mizzen.sessions.session import Session
from mizzen.sessions.tools import Luggage

from .attach import Target


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do in a guest, in this order: put, run while ports are forwarded, get.

    command: empty for a shell, None for nothing to run. environment: added to the usual one.
    put: (a path here, the guest's). get: (the guest's, a path here). guest_pid: whose namespaces
    to join.
    """

    command: tuple[str, ...] | None
    streams: Streams
    environment: Mapping[str, str]
    put: tuple[tuple[Path, str], ...] = ()
    get: tuple[tuple[str, Path], ...] = ()
    forward: tuple[Forward, ...] = ()
    guest_pid: int | None = None


class Audience(Protocol):
    """Whom a session tells how it goes."""

    def entered(self, release: str) -> None:
        """The guest has been entered; its kernel's release."""
        ...

    def listening(self, wanted: Forward, host: str, port: int) -> None:
        """Connections to this address and port lead into the guest."""
        ...

    def refused(self, failure: Failure) -> None:
        """A connection could not be made."""
        ...

    def copying(self) -> AbstractContextManager[Report]:
        """Follow files that are copied."""
        ...

    def copied(self, copied: Copied) -> None:
        """Files have been copied."""
        ...

    def terminal(self) -> AbstractContextManager[None]:
        """Hand the terminal over to the command for as long as it runs."""
        ...


def enter(where: Target, wish: Wish, luggage: Luggage, audience: Audience) -> int:
    """Do what was wished inside a guest; return the command's status, 0 if there was none.

    Gives up all privileges for good but reading other processes' memory and, where files are
    copied, the user's own files: this is meant to be the last thing a process does.
    Raises Failure that says why the guest cannot be entered, or what could not be done.
    """
    kept = [Capability.SYS_PTRACE]
    if wish.put or wish.get:
        kept += [Capability.DAC_OVERRIDE, Capability.FOWNER]

    def confine() -> None:
        capabilities.keep_only(*kept)

    try:
        with target.opened(where.pid, confine) as guest:
            return asyncio.run(_enter(guest, wish, luggage, audience))
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except BadAddress as error:
        raise Failure(
            f"cannot attach to {where.name}", f"what the guest tells leads nowhere: {error}"
        ) from error


async def _enter(guest: Guest, wish: Wish, luggage: Luggage, audience: Audience) -> int:
    async with session.opened(guest, guest_pid=wish.guest_pid) as opened:
        for path, guest_path in wish.put:
            with audience.copying() as report:
                copied = await opened.put(path, guest_path, report)
            audience.copied(copied)
        status = await _run(opened, wish, luggage, audience)
        for guest_path, path in wish.get:
            with audience.copying() as report:
                copied = await opened.get(guest_path, path, report)
            audience.copied(copied)
    return status


async def _run(opened: Session, wish: Wish, luggage: Luggage, audience: Audience) -> int:
    async with AsyncExitStack() as stack:
        for wanted in wish.forward:
            way = opened.forward(wanted, audience.refused)
            audience.listening(wanted, *await stack.enter_async_context(way))
        if wish.command is None and wish.forward:
            await opened.link.ended()
        if wish.command is None:
            return 0
        await opened.bring(luggage)
        audience.entered(opened.guest.kernel.release)
        with audience.terminal():
            return await opened.shell(
                *wish.command, streams=wish.streams, environment=wish.environment
            )
