"""Put together the lines that are one event: a traceback, a panic, a kernel's oops.

Pure: the clock is passed in. Each stream is grouped on its own, so stdout between the lines of a
traceback on stderr does not break it. The last event of a stream stays open until a line comes
that does not belong to it, or until nothing came for a while. Memory is bounded: of a long event
the first and the last lines are kept, and their number is told.

The state is plain data, so whoever follows a file can save it together with the place in the
file, and go on from both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from mizzen.model.log import LogLine, Stream

QUIET = 0.5
"""Seconds without a line after which an event that looks whole is over."""

PATIENCE = 3.0
"""Seconds without a line after which an event that should go on is over all the same."""

MOST_LINES = 200
HEAD_LINES = 80
"""Lines kept of one event, and how many of them are its first."""

FIRST_LENGTH = 16 << 10
LENGTH = 2 << 10
"""Characters kept of an event's first line, which may be JSON, and of each other."""

MOST_STREAMS = 64
"""Streams with an open event; with more, the one that waits longest is closed."""


class Shape(StrEnum):
    """What an event's lines look like together."""

    LINE = "line"
    TRACEBACK = "traceback"  # Python's
    STACK = "stack"  # "at" lines: Java, Node, .NET
    GO = "go"
    RUST = "rust"
    KERNEL = "kernel"  # an oops, a panic, a warning


class Phase(StrEnum):
    """Where in an event its last line stands."""

    WHOLE = "whole"  # it may end here
    BODY = "body"  # more must follow
    NESTED = "nested"  # in an exception group, whose lines are all indented
    GAP = "gap"  # an empty line after a traceback
    LINK = "link"  # "During handling of the above exception ..."


@dataclass(frozen=True, slots=True)
class Event:
    """Lines that belong together; time as the first one tells it."""

    stream: Stream
    shape: Shape
    lines: tuple[str, ...]
    time: float | None


@dataclass(slots=True)
class Open:
    """An event whose end has not been seen.

    part: text of records that the next record goes on with. touched: when the last line came.
    """

    stream: Stream
    time: float | None
    touched: float
    shape: Shape = Shape.LINE
    phase: Phase = Phase.WHOLE
    lines: list[str] = field(default_factory=list)
    left_out: int = 0
    part: str = ""

    def append(self, text: str) -> None:
        """Add a line; the middle of a long event is dropped."""
        self.lines.append(text[:LENGTH] if self.lines else text[:FIRST_LENGTH])
        if len(self.lines) > MOST_LINES:
            del self.lines[HEAD_LINES]
            self.left_out += 1

    def event(self) -> Event:
        """Return it as it stands."""
        lines = list(self.lines)
        if self.left_out:
            lines.insert(HEAD_LINES, f"... {self.left_out} lines left out ...")
        return Event(self.stream, self.shape, tuple(lines), self.time)

    @property
    def deadline(self) -> float:
        """When it is over if no line comes."""
        whole = self.phase in {Phase.WHOLE, Phase.GAP} and not self.part
        return self.touched + (QUIET if whole else PATIENCE)


class Grouper:
    """Groups lines of any number of streams, told apart by a key."""

    def __init__(self, state: dict[str, Open] | None = None) -> None:
        self.state = state if state is not None else {}

    def add(self, key: str, line: LogLine, now: float) -> list[Event]:
        """Take a line; return the events that it ends."""
        closed: list[Event] = []
        held = self.state.pop(key, None)
        if held is None and len(self.state) >= MOST_STREAMS:
            closed += self._close([min(self.state, key=lambda other: self.state[other].touched)])
        if held is None:
            held = Open(line.stream, line.time, now)
        self.state[key] = held
        held.touched = now
        text = held.part + line.text[: FIRST_LENGTH - len(held.part)]
        held.part = text if line.partial else ""
        if line.partial:
            return closed
        if held.lines and not _takes(held, text):
            closed.append(held.event())
            held.lines = []
        if not held.lines:
            held.time, held.left_out = line.time, 0
            held.shape, held.phase = _beginning(line.stream, text)
        held.append(text)
        if line.stream is Stream.INIT:
            closed += self._close([key])
        return closed

    def expire(self, now: float) -> list[Event]:
        """Return the events that are over because nothing came for long enough."""
        return self._close([key for key, held in self.state.items() if held.deadline <= now])

    def close(self) -> list[Event]:
        """Return all that is open: nothing more will come."""
        return self._close(list(self.state))

    def restart(self, now: float) -> None:
        """Let waiting begin now, for a state saved under another clock."""
        for held in self.state.values():
            held.touched = now

    @property
    def deadline(self) -> float | None:
        """When ``expire`` will next have something to return."""
        return min((held.deadline for held in self.state.values()), default=None)

    def _close(self, keys: Iterable[str]) -> list[Event]:
        closed = []
        for key in keys:
            held = self.state.pop(key)
            if held.part and (not held.lines or _takes(held, held.part)):
                held.append(held.part)
            elif held.part:
                closed.append(held.event())
                shape, phase = _beginning(held.stream, held.part)
                held = Open(held.stream, held.time, held.touched, shape, phase, [held.part])
            if held.lines:
                closed.append(held.event())
        return closed


# Python: traceback.py and its tests show every form used here.
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):$")
_NESTED = re.compile(r"\s*[+|] Exception Group Traceback \(most recent call last\):$")
_SYNTAX = re.compile(r'  File ".*", line \d+$')
_LINKS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)
_EXCEPTION = re.compile(r"[A-Za-z_][\w.<>]*(?::|$)")
_HEADER = re.compile(
    r"\[?(?:\d{4}[-/]|\d\d:\d\d)|.{0,120}?\b(?i:error|critical|fatal|exception|warning|warn|info|debug)\b"
)
# Java, Node and .NET say "at" before each frame.
_AT = re.compile(r"\s+at \S|Caused by: |\s+(?:Suppressed: |\.\.\. \d+ (?:more|common frames))")
# Go: runtime/panic.go, runtime/traceback.go.
_GO = re.compile(r"panic: |fatal error: ")
_GO_MORE = re.compile(
    r"$|\t|goroutine \d+ |\[signal |panic: |created by |runtime: |exit status \d|\.\.\."
    r"|[\w./*()\[\]{}-]{1,200}\(.{0,300}\)$"
)
_RUST = re.compile(r"thread '.{0,100}' (?:\(\d+\) )?panicked at ")
_RUST_MORE = re.compile(r"note: |stack backtrace:|\s+\d+: |\s+at ")
# The kernel: kernel/panic.c, arch/x86/kernel/dumpstack.c, mm/oom_kill.c, kernel/hung_task.c.
_TRACED = re.compile(
    r"-+\[ cut here \]-+|BUG: (?:unable to handle|kernel NULL)|kernel BUG at |Oops\b"
    r"|Internal error: |Unable to handle kernel "
    r"|(?:general protection fault|invalid opcode|divide error|double fault|stack segment|int3"
    r"|alignment check|bounds|invalid TSS)\b.*[:,]"
    r"|Kernel panic - not syncing|WARNING: CPU: "
)
_UNTRACED = re.compile(
    r"(?:watchdog: )?BUG: |INFO: task .* blocked for more than|rcu: INFO: .* stall|INFO: rcu_"
)
_TRACE_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
_KERNEL_MORE = re.compile(
    r"\s|CPU: |Hardware name: |Workqueue: |Call Trace:|Modules linked in:|Code: |note: "
    r"|(?:RIP|RSP|RAX|RDX|RBP|R08|R10|R13|FS|CS|CR2|DR0|DR3|PKRU|PGD|EFLAGS|pc|lr|sp|x\d+) ?: ?"
    r"|#PF: |Kernel panic - |Kernel Offset: |Rebooting in |-+\[ end |Oops|Sending NMI "
    r"|NMI backtrace|Tainted: "
)


def _beginning(stream: Stream, text: str) -> tuple[Shape, Phase]:
    if stream is Stream.KERNEL:
        traced = _TRACED.match(text) is not None
        shape = Shape.KERNEL if traced or _UNTRACED.match(text) else Shape.LINE
        return shape, Phase.BODY if traced else Phase.WHOLE
    if stream is not Stream.INIT:
        traceback = _traceback(text)
        if traceback is not None:
            return Shape.TRACEBACK, traceback
        if _GO.match(text):
            return Shape.GO, Phase.WHOLE
        if _RUST.match(text):
            return Shape.RUST, Phase.BODY if text.endswith(":") else Phase.WHOLE
    return Shape.LINE, Phase.WHOLE


def _traceback(text: str) -> Phase | None:
    if _NESTED.match(text):
        return Phase.NESTED
    return Phase.BODY if _TRACEBACK.search(text[-60:]) or _SYNTAX.match(text) else None


def _takes(held: Open, text: str) -> bool:
    """Whether the line goes on with the open event; moves the event's phase if so."""
    match held.shape:
        case Shape.TRACEBACK:
            phase = _after(held.phase, text)
        case Shape.KERNEL:
            phase = _kernel(held.phase, text)
        case Shape.GO:
            phase = Phase.WHOLE if _GO_MORE.match(text) else None
        case Shape.RUST:
            more = held.phase is Phase.BODY or _RUST_MORE.match(text)
            phase = Phase.WHOLE if more else None
        case Shape.STACK:
            phase = Phase.WHOLE if _AT.match(text) else None
        case Shape.LINE:
            return _joins(held, text)
    if phase is None:
        return False
    held.phase = phase
    return True


def _joins(held: Open, text: str) -> bool:
    """Whether a traceback or a stack begins that the one line before it announced."""
    if held.stream in {Stream.KERNEL, Stream.INIT}:
        return False
    phase = _traceback(text)
    if phase is not None and _HEADER.match(held.lines[-1]):
        held.shape, held.phase = Shape.TRACEBACK, phase
        return True
    if _AT.match(text):
        held.shape = Shape.STACK
        return True
    return False


def _after(phase: Phase, text: str) -> Phase | None:
    """Return the phase of a Python traceback after the line; None if it does not belong."""
    begins = None if _SYNTAX.match(text) else _traceback(text)  # there it is the last frame
    if not text.strip():
        return phase if phase in {Phase.LINK, Phase.GAP} else Phase.GAP
    if phase is Phase.LINK:
        return begins
    if text in _LINKS:
        return Phase.LINK
    if phase is not Phase.GAP:
        if text[0] in {" ", "\t"} and (phase is Phase.NESTED or begins is None):
            return phase
        if phase is Phase.BODY and begins is None and _EXCEPTION.match(text):
            return Phase.WHOLE
    return None


def _kernel(phase: Phase, text: str) -> Phase | None:
    if _TRACE_END.match(text):
        return Phase.WHOLE
    if phase is Phase.BODY:  # whatever stands between an oops and its end belongs to it
        return Phase.BODY
    return Phase.WHOLE if _KERNEL_MORE.match(text) else None
