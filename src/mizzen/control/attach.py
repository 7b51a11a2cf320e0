"""Entering a guest by the name a user gives it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mizzen.builders import image
from mizzen.host import cpio
from mizzen.host.cpio import Entry
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure, UsageError
from mizzen.model.log import parse_cri
from mizzen.model.machine import MachineState
from mizzen.model.progress import Report
from mizzen.sessions import tools

from . import incidents, machines

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


async def gather(
    where: Target, named: str | None, folders: Folders, report: Report
) -> Iterable[Entry]:
    """Return the tools a user named: a folder's or an OCI image's, or busybox if none were.

    What the guest's function wrote last is added as /log. Raises Failure.
    """
    log = [] if where.log is None else [cpio.file("log", where.log.encode(errors="replace"))]
    if named is None:
        return chain(await tools.busybox(), log)
    folder = image.as_folder(named)
    if folder is None:
        folder = await image.tools_folder(named, folders, report)
    return chain(tools.folder(folder), log)
