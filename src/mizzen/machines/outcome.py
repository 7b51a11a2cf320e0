"""How a machine ended, out of what it left: init's records, the console, the VMM's complaint.

The guest wrote the first two. It may lie about its own end and about nothing else, and no more
than the last bytes of each file are read.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.process import last_words
from mizzen.model.log import Stream, parse_cri
from mizzen.model.machine import MachineState

from .files import MachineFiles

TAIL = 64 << 10
REASON = 300
"""Characters of a reason that are kept."""

_LAST_WORDS = re.compile(
    r"exited status=(\d{1,3})$"
    r"|Solo5: (?:solo5_exit\((\d{1,3})\) called$|solo5_abort\(\) called$|ABORT: )"
)
_ABORTED = 255
"""The status that Solo5 gives what it aborts."""

_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
_PRINTK = re.compile(r"^\[ *\d+\.\d+\] ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended; the fields are those of model.machine.Machine."""

    state: MachineState
    status: int | None
    reason: str


def judge(files: MachineFiles, *, unikernel: bool = False) -> Outcome:
    """Return how a machine whose VMM has gone ended."""
    if unikernel:
        return _judge_unikernel(files)
    log = _tail(files.log)
    console = [_PRINTK.sub("", line.rstrip("\r")) for line in _tail(files.console)]
    for lines in (log, console):
        if outcome := _told(lines):
            return outcome
    panics = [found[1] for line in console if (found := _PANIC.search(line))]
    if panics:
        return _failed(f"kernel panic: {panics[-1]}")
    if words := complaint(files):
        return _failed(f"the VMM failed: {words}")
    return _failed("its VMM ended without a word; it was killed, or the guest powered off")


def exit_status(line: str) -> int | None:
    """Return the status that a unikernel tells in a line of its console when it ends, if it does.

    Mizzen's own way is ``exited status=N``, MirageOS's is Solo5's.
    """
    found = _LAST_WORDS.match(line)
    return int(found[1] or found[2] or _ABORTED) if found else None


def _judge_unikernel(files: MachineFiles) -> Outcome:
    console = [line.strip() for line in _tail(files.console) if line.strip()]
    last = console.pop() if console else ""
    status = exit_status(last)
    if status is None:
        if words := complaint(files):
            return _failed(f"the VMM failed: {words}")
        said = f"its last line: {last}" if last else "it wrote nothing"
        return _failed(f"its VMM ended without a word; {said}")
    if status == 0:
        return Outcome(MachineState.STOPPED, status, "exited with status 0")
    before = f": {console[-1]}" if console else ""
    return Outcome(MachineState.FAILED, status, _clean(f"exited with status {status}{before}"))


def ended_at(files: MachineFiles, now: float) -> float:
    """Return when a machine wrote its last byte, which is when it ended; now if it wrote none."""
    times = []
    for path in (files.log, files.console, files.vmm):
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_size:
            times.append(status.st_mtime)
    return min(max(times, default=now), now)


def complaint(files: MachineFiles) -> str:
    """Return the VMM's last words, without its name."""
    words = last_words("\n".join(_tail(files.vmm)).encode())
    return _clean(re.sub(r"^qemu-system-\w+: ", "", words))


def _told(lines: list[str]) -> Outcome | None:
    """Return what init told of the end; None if it did not."""
    said = [
        record.text
        for line in lines
        if (record := parse_cri(line)) is not None and record.stream is Stream.INIT
    ]
    asked = any(text.startswith("stopping") for text in said)
    for text in reversed(said):
        if text.startswith("fatal: "):
            return _failed(text.removeprefix("fatal: "))
        if text == "nothing to start":
            return Outcome(MachineState.STOPPED, None, text)
        if found := re.fullmatch(r"exited status=(\d{1,3})", text):
            status, reason = int(found[1]), f"exited with status {found[1]}"
        elif found := re.fullmatch(r"killed signal=(\d{1,2})", text):
            status, reason = 128 + int(found[1]), f"killed by {_signal_name(int(found[1]))}"
        else:
            continue
        good = asked or status == 0
        return Outcome(MachineState.STOPPED if good else MachineState.FAILED, status, reason)
    return None


def _failed(reason: str) -> Outcome:
    return Outcome(MachineState.FAILED, None, _clean(reason))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.strip())[:REASON]


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read(TAIL).decode(errors="replace").split("\n")
    except OSError:
        return []
