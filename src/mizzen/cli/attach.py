"""``mizzen attach``: a shell, or one command, inside a running guest."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

from cyclopts import Parameter

from mizzen.attach.session import Streams, terminal_size
from mizzen.control import attach as control
from mizzen.control.attach import Entered
from mizzen.host.paths import folders
from mizzen.store import database

from . import output


def attach(
    target: str,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    tools: str | None = None,
) -> int:
    """Open a shell inside a running guest, through its memory alone.

    The guest needs no agent, ssh or network. Its own files are at /guest. The shell and whatever
    it started end with the session; the guest stays as it was.

    Parameters
    ----------
    target
        A machine's name, or pid:N for anybody's hypervisor.
    command
        What to run instead of a shell, after --; its exit status becomes this command's.
    tools
        A folder with the programs to bring along; busybox by default.
    """
    with closing(database.connect(folders().database)) as connection:
        where = control.resolve(connection, target)
    brought = asyncio.run(control.gather(tools))
    interactive = os.isatty(0) and os.isatty(1)
    streams = Streams(0, 1, 2, terminal_size(0) if interactive else None)
    environment = [f"TERM={os.environ.get('TERM', 'dumb')}"] if interactive else []

    def greet(entered: Entered) -> None:
        if interactive and not command:
            output.console.print(
                f"[bold]{entered.name}[/], Linux {entered.release}. The guest's files are at"
                " /guest. Leave with exit or Ctrl-D; if it hangs, Enter ~ ."
            )
            sys.stdout.flush()

    with _raw(0) if interactive else _as_it_is():
        return control.enter(
            where,
            list(command),
            environment,
            brought=brought,
            streams=streams,
            greet=greet,
        )


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Hand every key to the guest; put the terminal back at the end."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield
