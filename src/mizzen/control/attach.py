"""Entering a guest by the name a user gives it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mizzen.builders import image
from mizzen.host import capabilities, cpio
from mizzen.host.capabilities import Capability
from mizzen.host.cpio import Entry
from mizzen.host.paths import Folders
from mizzen.introspection import target
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.target import Guest
from mizzen.model.errors import Failure, UsageError
from mizzen.model.log import parse_cri
from mizzen.model.machine import MachineState
from mizzen.model.progress import Report
from mizzen.sessions import local, session, tools
from mizzen.sessions.local import Interrupted, Streams

from . import incidents, machines

SHELL = ["sh"]
LAST_BYTES = 64 << 10
"""How much of a function's log a session finds in /log."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What the greeting tells: the guest's name and its kernel's release."""

    name: str
    release: str


@dataclass(frozen=True, slots=True)
class Target:
    """A hypervisor to enter, and what to call its guest.

    log: what the guest's function wrote last, as text; None for a machine that is not ours.
    """

    name: str
    pid: int
    log: str | None = None


def resolve(folders: Folders, text: str) -> Target:
    """Return what TARGET means: a machine's name, ``incident/ID`` or ``pid:N``.

    Raises UsageError for a malformed one, Failure for what is not running.
    """
    if text.startswith("incident/"):
        number = text.removeprefix("incident/")
        if not re.fullmatch(r"[1-9][0-9]{0,17}", number):
            raise UsageError(
                f"cannot attach to {text}", "that is no incident's id", "write incident/NUMBER"
            )
        return resolve(folders, incidents.target(folders, incidents.incident(folders, int(number))))
    if text.startswith("pid:"):
        number = text.removeprefix("pid:")
        if not re.fullmatch(r"[1-9][0-9]{0,9}", number):
            raise UsageError(
                f"cannot attach to {text}", "that is no process id", "write pid:NUMBER"
            )
        return Target(f"pid {number}", int(number))
    with machines.registry(folders) as registry:
        machine = registry.find(text)
    if machine.state is not MachineState.RUNNING:
        raise Failure(
            f"cannot attach to {text}",
            f"it is {machine.state}",
            f"see: mizzen machines show {text}",
        )
    return Target(text, machine.pid, _last_lines(registry.files(text).log))


def _last_lines(log: Path) -> str:
    """Return the end of a log, which may be large, as plain lines."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
        text = file.read().decode(errors="replace")
    lines = filter(None, map(parse_cri, text.splitlines()))
    return "".join(f"{line.text}\n" for line in lines)


async def gather(named: str | None, folders: Folders, report: Report) -> Iterable[Entry]:
    """Return the tools a user named: a folder's or an OCI image's, or busybox if none were."""
    if named is None:
        return await tools.busybox()
    folder = image.as_folder(named)
    if folder is None:
        folder = await image.tools_folder(named, folders, report)
    return tools.folder(folder)


def enter(
    where: Target,
    command: list[str],
    environment: Mapping[str, str],
    *,
    brought: Iterable[Entry],
    streams: Streams,
    greet: Callable[[Entered], None],
    guest_pid: int | None = None,
) -> int:
    """Run a command inside a guest and return its status.

    Gives up all privileges but reading other processes' memory, for good: this is meant to be
    the last thing a process does. Raises Failure that says why the guest cannot be entered.
    """
    if where.log is not None:
        brought = chain(brought, [cpio.file("log", where.log.encode(errors="replace"))])

    def confine() -> None:
        capabilities.keep_only(Capability.SYS_PTRACE)

    async def run(guest: Guest) -> int:
        async with session.opened(guest, guest_pid=guest_pid) as opened:
            await opened.bring(brought)
            greet(Entered(where.name, guest.kernel.release))
            stream = await opened.start(
                command or SHELL, environment=environment, terminal=streams.terminal
            )
            return await local.connect(stream, streams)

    try:
        with target.opened(where.pid, confine) as guest:
            return asyncio.run(run(guest))
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except BadAddress as error:
        raise Failure(
            f"cannot attach to {where.name}", f"what the guest tells leads nowhere: {error}"
        ) from error
