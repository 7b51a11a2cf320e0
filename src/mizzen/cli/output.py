"""How commands speak: tables or JSON on stdout, progress and failures on stderr."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from mizzen.model.progress import Progress, Report

console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)


CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Control characters that JSON leaves as they are, and its way to write them."""


def have_standard_streams() -> None:
    """Open what was closed, and print a question mark for what an encoding cannot say.

    A descriptor 0 to 2 that is closed would become the next file that is opened.
    """
    while (free := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(free, True)  # noqa: FBT003
    os.close(free)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def abandon(stream: TextIO) -> None:
    """Close a stream, whether or not it takes what is left: Python must not complain of it."""
    with contextlib.suppress(OSError):
        stream.close()


def fail(line: str) -> None:
    """Print one line that says what failed."""
    errors.print("[bold red]error[/]: ", end="")
    errors.print(line, markup=False, soft_wrap=True)


def note(line: str) -> None:
    """Print a remark on stderr, which may be a terminal that a guest's command has at present."""
    errors.print(line, markup=False, soft_wrap=True, end="\r\n" if errors.is_terminal else "\n")


def tell(line: Text) -> None:
    """Print a line on stdout; where stdout and stderr are terminals, above the bars."""
    (errors if console.is_terminal and errors.is_terminal else console).print(line, soft_wrap=True)


def json_text(value: object) -> str:
    """Return a value as one JSON document, a line's end included."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    text = msgspec.json.format(encoded, indent=2).decode()
    return text.translate(CONTROLS) + "\n"


def as_json(value: object) -> None:
    """Print a value as one JSON document."""
    sys.stdout.write(json_text(value))


def as_json_line(value: object) -> None:
    """Print a value as JSON in one line, at once, for whoever follows."""
    sys.stdout.write(msgspec.json.encode(value, enc_hook=str).decode() + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], empty: str) -> None:
    """Print rows under their columns, or the sentence ``empty`` where there are none.

    A str is shown as it is, brackets and all; a cell with style is a Text.
    """
    if not rows:
        console.print(empty, markup=False)
        return
    drawn = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        drawn.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(drawn)


def clock(time: float) -> str:
    """Return a time as the user's local clock shows it."""
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(since: float) -> str:
    """Return how long ago a time was, in its largest unit."""
    seconds = max(0, int(time.time() - since))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@contextmanager
def progress() -> Iterator[Report]:
    """Yield a callback that shows reports as bars on a terminal, and as plain lines elsewhere."""
    if not errors.is_terminal:
        yield _plain()
        return
    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
    )
    with bars:
        known: dict[str, int] = {}

        def report(seen: Progress) -> None:
            number = known.setdefault(seen.task, -1)
            if number < 0:
                number = known[seen.task] = int(bars.add_task(seen.task, total=seen.total))
            bars.update(bars.task_ids[number], completed=seen.done, total=seen.total)
            if seen.finished:
                bars.remove_task(bars.task_ids[number])
                known.pop(seen.task)
                bars.console.print(f"  {seen.task}", markup=False, style="dim")

        yield report


def _plain() -> Report:
    started: set[str] = set()

    def report(seen: Progress) -> None:
        if seen.task not in started:
            started.add(seen.task)
            errors.print(f"{seen.task} ...", markup=False, soft_wrap=True)

    return report
