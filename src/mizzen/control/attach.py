"""Entering a guest by the name a user gives it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mizzen.builders import tools as builders
from mizzen.builders.tools import Tools
from mizzen.host import cpio
from mizzen.host.cpio import Entry
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure, UsageError
from mizzen.model.log import parse_cri
from mizzen.model.machine import MachineState
from mizzen.model.progress import Report
from mizzen.sessions import tools
from mizzen.sessions.tools import Folder, Luggage

LAST_BYTES = 64 << 10
"""How much of a function's log a session finds in /log."""


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
    if text.startswith("pid:"):
        number = text.removeprefix("pid:")
        if not re.fullmatch(r"[1-9][0-9]{0,9}", number):
            raise UsageError(
                f"cannot attach to {text}", "that is no process id", "write pid:NUMBER"
            )
        return Target(f"pid {number}", int(number))
    from . import incidents, machines  # noqa: PLC0415 - they take a moment

    if text.startswith("incident/"):
        number = text.removeprefix("incident/")
        if not re.fullmatch(r"[1-9][0-9]{0,17}", number):
            raise UsageError(
                f"cannot attach to {text}", "that is no incident's id", "write incident/NUMBER"
            )
        return resolve(folders, incidents.target(folders, incidents.incident(folders, int(number))))
    with machines.registry(folders) as registry:
        machine = registry.find(text)
    if machine.state is not MachineState.RUNNING:
        raise Failure(
            f"cannot attach to {text}",
            f"it is {machine.state}",
            f"see: mizzen machines show {text}",
        )
    if machine.spec.unikernel:
        raise Failure(
            f"cannot attach to {text}",
            "it is a unikernel, and only Linux can be entered or looked into",
            f"see what it wrote: mizzen machines logs {text}",
        )
    return Target(text, machine.pid, _last_lines(registry.files(text).log))


def _last_lines(log: Path) -> str:
    """Return the end of a log, which may be large, as plain lines."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
        text = file.read().decode(errors="replace")
    lines = filter(None, map(parse_cri, text.splitlines()))
    return "".join(f"{line.text}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tools to bring along: entries, and a folder that they are added to, if any."""

    entries: tuple[Entry, ...]
    tools: Tools | None


async def gather(where: Target, named: str | None, folders: Folders, report: Report) -> Chosen:
    """Return the tools a user named: a folder, a tarball, an OCI image.

    If none were named, the default ones, or busybox where nobody has built those. What the
    guest's function wrote last is added as /log. Raises Failure.
    """
    log = () if where.log is None else (cpio.file("log", where.log.encode(errors="replace")),)
    if named is None:
        found = builders.default(folders)
    else:
        from mizzen.builders import toolmaking  # noqa: PLC0415 - it takes a moment

        found = await toolmaking.gather(named, folders, report)
    return Chosen(log if found else (*await tools.busybox(), *log), found)


@contextmanager
def held(chosen: Chosen) -> Iterator[Luggage]:
    """Keep the tools from being removed while a session uses them."""
    found = chosen.tools
    if found is None:
        yield Luggage(chosen.entries)
        return
    with builders.held(found.path) as descriptor:
        yield Luggage(chosen.entries, Folder(found.path, descriptor, found.size, found.count))
