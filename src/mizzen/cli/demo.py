"""``mizzen demo``: a function fails in its microVM, and a shell opens inside it."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack

from rich.text import Text

from mizzen.control import demo as control
from mizzen.control.demo import Stage
from mizzen.host.paths import folders
from mizzen.host.process import hand_over
from mizzen.model.errors import Failure

from . import attach, output

LOOK = r"""
echo '# uname -a'; uname -a
echo '# ps'; ps -eo pid,user,args | grep -v -e '\[.*\]$' -e 'sh -c' -e grep
echo '# tail /log'; tail /log
"""
"""What is run in the VM when nobody is at a terminal."""


def demo() -> None:
    """Let a function fail in its microVM, and open a shell inside that very VM.

    Builds the example function hellooopsie, boots it, waits for the error it prints every 15
    seconds, and attaches. Without a terminal, it looks around in the VM and ends.
    """
    interactive = os.isatty(0) and os.isatty(1)
    asyncio.run(_demo(interactive=interactive))


async def _demo(*, interactive: bool) -> None:
    async with AsyncExitStack() as stack:
        with output.progress() as report:
            failing = control.failing_function(folders(), report, _tell)
            failed = await stack.enter_async_context(failing)
        name = failed.machine.spec.name
        sys.stdout.flush()
        if interactive:
            output.console.print(f"\n[dim]mizzen attach {name}[/]")
            attach.in_own_process(name)
        elif hand_over(sys.executable, "-m", "mizzen", "attach", name, "--", "sh", "-c", LOOK):
            raise Failure("the demo failed", "its commands did not run in the VM", "see above")


def _tell(stage: Stage) -> None:
    line = Text("  ")
    line.append(f"{stage.name:<10}", "bold green")
    line.append(stage.told)
    line.append(f"  {stage.seconds:.1f} s", "dim")
    output.tell(line)
