"""``mizzen attach``: a shell, or one command, inside a running guest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from typing import Annotated

from cyclopts import Parameter

from mizzen.control import attach as control
from mizzen.control.attach import Entered
from mizzen.host.paths import folders
from mizzen.host.process import hand_over
from mizzen.sessions.local import Streams, terminal_size

from . import output, terminal


def attach(
    target: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    tools: str | None = None,
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
        The programs to bring along: a folder with a root file system, or an OCI image; busybox
        by default.
    """
    where = control.resolve(folders(), target)
    with output.progress() as report:
        brought = asyncio.run(control.gather(tools, folders(), report))
    interactive = os.isatty(0) and os.isatty(1)
    streams = Streams(0, 1, 2, terminal_size(0) if interactive else None)
    environment = {"TERM": os.environ.get("TERM", "dumb")} if interactive else {}

    began = time.monotonic()
    with contextlib.ExitStack() as stack:

        def greet(entered: Entered) -> None:
            if not interactive:
                return
            if not command:
                _greet(entered, time.monotonic() - began, log=where.log is not None)
            # Only now: until here Ctrl-C is for us.
            stack.enter_context(terminal.raw(0))

        return control.enter(
            where, list(command), environment, brought=brought, streams=streams, greet=greet
        )


def _greet(entered: Entered, seconds: float, *, log: bool) -> None:
    more = ", what its function wrote last at /log" if log else ""
    output.console.print(
        f"[bold]{entered.name}[/], Linux {entered.release}, entered in {seconds:.1f} s.\n"
        f"Its files are at /guest{more}.\n"
        "Leave with exit or Ctrl-D; if the guest hangs, type Enter ~ .",
        soft_wrap=True,
    )
    sys.stdout.flush()


def in_own_process(target: str) -> int:
    """Open a shell on this terminal, in a process that can give up its privileges."""
    return hand_over(sys.executable, "-m", "mizzen", "attach", target)
