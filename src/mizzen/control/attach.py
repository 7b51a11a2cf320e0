"""Entering a guest by the name a user gives it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mizzen.attach import session, target, tools
from mizzen.attach.session import Streams
from mizzen.host import capabilities
from mizzen.host.capabilities import Capability
from mizzen.host.cpio import Entry
from mizzen.model.errors import Failure, UsageError
from mizzen.store import machines

SHELL = ["sh"]


@dataclass(frozen=True, slots=True)
class Entered:
    """What the greeting tells: the guest's name and its kernel's release."""

    name: str
    release: str


@dataclass(frozen=True, slots=True)
class Target:
    """A hypervisor to enter, and what to call its guest."""

    name: str
    pid: int


def resolve(connection: sqlite3.Connection, text: str) -> Target:
    """Return what TARGET means: ``pid:N`` or a machine's name.

    Raises UsageError for what is neither, Failure for a machine that is not running.
    """
    if text.startswith("pid:"):
        number = text.removeprefix("pid:")
        if not re.fullmatch(r"[1-9][0-9]{0,9}", number):
            raise UsageError(
                f"cannot attach to {text}", "that is no process id", "write pid:NUMBER"
            )
        return Target(f"pid {number}", int(number))
    what = f"cannot attach to {text}"
    machine = machines.find(connection, text)
    if machine is None:
        raise Failure(
            what, "there is no machine of that name", "see: mizzen machines list, or use pid:NUMBER"
        )
    if not machine.pid:
        raise Failure(what, "it is not running", f"see: mizzen machines show {text}")
    return Target(text, machine.pid)


async def gather(named: str | None) -> Iterable[Entry]:
    """Return the tools a user named: a folder's, or busybox if none were named."""
    if named is None:
        return await tools.busybox()
    return tools.folder(Path(named))


def enter(
    where: Target,
    command: list[str],
    environment: list[str],
    *,
    brought: Iterable[Entry],
    streams: Streams,
    greet: Callable[[Entered], None],
) -> int:
    """Run a command inside a guest and return its status.

    Gives up all privileges but reading other processes' memory, for good: this is meant to be
    the last thing a process does. Raises Failure that says why the guest cannot be entered.
    """
    capabilities.keep_only(Capability.SYS_PTRACE)
    with target.opened(where.pid) as guest, session.opened(guest) as opened:
        opened.send_tools(brought)
        greet(Entered(where.name, guest.kernel.release))
        return opened.run(command or SHELL, environment, streams)
