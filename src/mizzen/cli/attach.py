"""``mizzen attach``: a shell, one command, files or ports of a running guest."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mizzen.control import attach as control
from mizzen.control.attach import Chosen, Target
from mizzen.control.enter import Wish, enter
from mizzen.host.paths import folders
from mizzen.host.process import hand_over
from mizzen.host.raw import raw
from mizzen.model.errors import Failure
from mizzen.model.progress import Report
from mizzen.sessions.copy import Copied
from mizzen.sessions.forward import Forward
from mizzen.sessions.local import Streams, terminal_size

from . import output, terminal

LEFT_OUT = 1
"""Status when not everything could be copied."""
NAMED_MAX = 10
"""How many files that were left out are named."""


def attach(
    target: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    tools: str | None = None,
    put: Annotated[list[tuple[Path, str]] | None, Parameter(negative=())] = None,
    get: Annotated[list[tuple[str, Path]] | None, Parameter(negative=())] = None,
    forward: Annotated[list[str] | None, Parameter(negative=())] = None,
    guest_pid: int | None = None,
) -> int:
    """Open a shell inside a running guest, through its memory alone.

    The guest needs no agent, ssh or network. Its own files are at /guest. The shell and whatever
    it started end with the session; the guest stays as it was.

    Parameters
    ----------
    target
        A machine's name, incident/ID, or pid:N for anybody's hypervisor.
    command
        What to run instead of a shell, after --; its exit status becomes this command's.
    tools
        The programs to bring along: a folder or a tarball with a root file system, or an OCI
        image; by default what ``mizzen tools build`` made, else busybox.
    put
        HOSTPATH GUESTPATH: copy a file or a folder into the guest, before the command; may be
        given more than once, and no command is needed then. A folder that is there is copied into.
    get
        GUESTPATH HOSTPATH: copy a file or a folder out of the guest, after the command.
    forward
        [HOST:]PORT:GUESTPORT: let connections to a port here lead to one of the guest's, while
        the command runs; without a command, until Ctrl-C. HOST is this host alone by default.
    guest_pid
        A process of the guest, by the number its own initial namespace has for it: the session
        joins its namespaces, such as a container's, and /guest is its root.
    """
    where = control.resolve(folders(), target)
    forwards = tuple(map(Forward.parse, forward or ()))
    something_else = put or get or forwards
    wanted = None if something_else and not command else command
    chosen = Chosen((), None)
    if wanted is not None:
        with output.progress() as report:
            chosen = asyncio.run(control.gather(where, tools, folders(), report))
    interactive = os.isatty(0) and os.isatty(1) and wanted is not None
    wish = Wish(
        command=wanted,
        streams=Streams(0, 1, 2, terminal_size(0) if interactive else None),
        environment={"TERM": os.environ.get("TERM", "dumb")} if interactive else {},
        put=tuple(put or ()),
        get=tuple(get or ()),
        forward=forwards,
        guest_pid=guest_pid,
    )
    hint = tools is None and chosen.tools is None
    audience = _Audience(where, greeted=interactive and not command, hint=hint)
    with control.held(chosen) as luggage:
        status = enter(where, wish, luggage, audience)
    return status or audience.status


@dataclass(slots=True)
class _Audience:
    """Tells the user; see ``control.enter.Audience``."""

    where: Target
    greeted: bool
    hint: bool
    status: int = 0
    began: float = field(default_factory=time.monotonic)

    def entered(self, release: str) -> None:
        if not self.greeted:
            return
        hint = "Its tools are busybox; for strace, gdb and more: mizzen tools build.\n"
        log = "" if self.where.log is None else ", what its function wrote last at /log"
        output.console.print(
            f"[bold]{self.where.name}[/], Linux {release}, entered in"
            f" {time.monotonic() - self.began:.1f} s.\n"
            f"Its files are at /guest{log}.\n"
            f"{hint if self.hint else ''}"
            "Leave with exit or Ctrl-D; if the guest hangs, type Enter ~ .",
            soft_wrap=True,
        )
        sys.stdout.flush()

    def listening(self, wanted: Forward, host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        output.note(f"{shown}:{port} leads to port {wanted.guest_port} of {self.where.name}")

    def refused(self, failure: Failure) -> None:
        output.note(terminal.harmless(str(failure)))

    def copying(self) -> AbstractContextManager[Report]:
        return output.progress()

    def copied(self, copied: Copied) -> None:
        if copied.left_out:
            self.status = LEFT_OUT
        for line in copied.left_out[:NAMED_MAX]:
            output.note(f"left out: {terminal.harmless(line)}")
        if len(copied.left_out) > NAMED_MAX:
            output.note(f"left out: {len(copied.left_out) - NAMED_MAX} more")

    def terminal(self) -> AbstractContextManager[None]:
        return raw(0)  # only now: until here Ctrl-C is for us


def in_own_process(target: str) -> int:
    """Open a shell on this terminal, in a process that can give up its privileges."""
    return hand_over(sys.executable, "-m", "mizzen", "attach", target)
