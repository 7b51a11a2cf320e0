"""``mizzen watch``: notice errors, and act."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from mizzen.control import watch as control
from mizzen.control.settings import read_settings
from mizzen.host.paths import folders
from mizzen.incidents.watcher import Seen
from mizzen.model.errors import Failure, UsageError

from . import output
from .incidents import can_enter

REMIND = 60.0
"""Seconds between two lines about one error that keeps coming."""


def watch(
    *,
    unit: Annotated[str | None, Parameter(name="--unit")] = None,
    do: Annotated[Literal["record", "attach"], Parameter(name="--do")] = "record",
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Notice errors in machines, record them as incidents, and act.

    Runs until interrupted. What was noticed stays: see mizzen incidents list.

    Parameters
    ----------
    unit
        Also follow the journal of this systemd unit; lines with vmID=N are of that VM.
    do
        What to do with an error that was never seen before: record it and say so, or attach,
        which opens a shell in its machine as well.
    json
        Print each error as one line of JSON.
    """
    enter = None
    if do == "attach":
        if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                "cannot open shells here", "this is no terminal", "run: mizzen watch --do record"
            )
        from mizzen.control import (  # type: ignore[attr-defined]  # noqa: PLC0415 - heavy, and rarely needed
            attach,
        )

        enter = attach.enter
    settings = read_settings()
    if not json:
        output.errors.print("watching; Ctrl-C ends it", style="dim")
    control.watch(
        folders(),
        settings,
        unit=unit,
        on_seen=output.as_json_line if json else _Teller().tell,
        on_failure=_tell_failure,
        enter=enter,
    )


class _Teller:
    """Prints one line for a new error, and now and then one for an error that keeps coming."""

    def __init__(self) -> None:
        self._told: dict[int, float] = {}

    def tell(self, seen: Seen) -> None:
        one, now = seen.incident, time.monotonic()
        if not seen.new and now - self._told.get(one.id, -REMIND) < REMIND:
            return
        self._told[one.id] = now
        line = Text(output.clock(one.last_seen), style="dim")
        if seen.new:
            line.append(f"  {one.source}", style="not dim bold cyan")
            line.append(f"  {one.message}", style="not dim")
            act = "enter" if can_enter(one) else "show"
            line.append(f"  mizzen incidents {act} {one.id}")
        else:
            line.append(f"  {one.source}  again, {one.count} times: {one.message}")
        output.console.print(line, soft_wrap=True)


def _tell_failure(failure: Failure) -> None:
    output.fail(str(failure))
