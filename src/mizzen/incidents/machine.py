"""Errors of one machine: in what its function and its kernel write, and in how it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from mizzen.machines.files import MachineFiles
from mizzen.machines.outcome import exit_status
from mizzen.model.incident import IncidentKind, Occurrence
from mizzen.model.log import LogLine, Stream, parse_cri

from .fingerprint import fingerprint
from .follow import Position, Tail
from .grouping import Event, Grouper, Open, Shape
from .notice import console_line, occurrence
from .rules import Rules, Verdict

_PANIC = "Kernel panic - not syncing"
_LAST_WORDS = ("exited ", "killed ", "fatal: ")


@dataclass(slots=True)
class FileState:
    """A place in a file, and the events that were open there."""

    position: Position = field(default_factory=Position)
    open: dict[str, Open] = field(default_factory=dict)


@dataclass(slots=True)
class FollowState:
    """How far a machine's output has been taken in.

    run: pid and start time of the VMM that is followed. told: the guest has said why it ends.
    over: that VMM's end has been dealt with.
    """

    run: tuple[int, int] = (0, 0)
    told: bool = False
    over: bool = False
    log: FileState = field(default_factory=FileState)
    console: FileState = field(default_factory=FileState)


class MachineFollower:
    """Takes in what a machine writes; holds no more than a batch and the open events.

    unikernel: the console is its function's output, and tells its end.
    """

    def __init__(
        self,
        name: str,
        files: MachineFiles,
        rules: Rules,
        saved: bytes | None,
        *,
        unikernel: bool = False,
    ) -> None:
        self._name = name
        self._rules = rules
        self._console = _unikernel_line if unikernel else console_line
        self.state = FollowState()
        if saved is not None:
            self.state = msgspec.json.decode(saved, type=FollowState)
        self._files = [
            _File(Tail(files.log, self.state.log.position), self.state.log),
            _File(Tail(files.console, self.state.console.position), self.state.console),
        ]

    def begin(self, run: tuple[int, int]) -> None:
        """Follow this VMM; it may be the one that was followed before."""
        if self.state.run != run:
            self.state.run, self.state.told, self.state.over = run, False, False

    def take(self, *, last: bool = False) -> tuple[list[Occurrence], bool]:
        """Return the errors in a batch of what has come, and whether anything had come.

        last: the VMM has ended, nothing more will be written.
        """
        events: list[Event] = []
        came = False
        for file in self._files:
            lines = file.tail.read(last=last)
            came = came or bool(lines)
            for text in lines:
                line = self._console(text) if file is self._files[1] else _log_line(text)
                self._hear(line)
                events += file.grouper.add(line.stream.value, line, time.monotonic())
            if last and not lines:
                events += file.grouper.close()
            events += file.grouper.expire(time.monotonic())
            file.state.position = file.tail.position
        now = time.time()
        found = (occurrence(event, self._rules, self._name, now) for event in events)
        return [one for one in found if one is not None], came

    def end(self, reason: str | None) -> list[Occurrence]:
        """Return the error that the VMM's end is, if it is one; its output was taken in before.

        reason: why it ended as far as the host knows; None if somebody wanted it.
        """
        self.state.over = True
        if self.state.told or reason is None:
            return []
        message = "the VMM ended without the guest's word"
        event = Event(Stream.INIT, Shape.LINE, (message,), None)
        mark = fingerprint(event, Verdict(IncidentKind.EXIT, message))
        lines = (message, reason) if reason else (message,)
        return [Occurrence(self._name, IncidentKind.EXIT, message, lines, mark, time.time())]

    def saved(self) -> bytes:
        """Return all that is needed to go on from here."""
        return msgspec.json.encode(self.state)

    @property
    def deadline(self) -> float | None:
        """When, by the monotonic clock, an open event is over if nothing comes."""
        deadlines = (file.grouper.deadline for file in self._files)
        return min((at for at in deadlines if at is not None), default=None)

    def close(self) -> None:
        """Let the files go."""
        for file in self._files:
            file.tail.close()

    def _hear(self, line: LogLine) -> None:
        """Note whether the guest says why it ends."""
        if line.stream is Stream.KERNEL:
            self.state.told = self.state.told or line.text.startswith(_PANIC)
        elif line.stream is Stream.INIT:
            self.state.told = line.text.startswith(_LAST_WORDS)


class _File:
    def __init__(self, tail: Tail, state: FileState) -> None:
        self.tail = tail
        self.state = state
        self.grouper = Grouper(state.open)
        self.grouper.restart(time.monotonic())


def _log_line(text: str) -> LogLine:
    """Read a record; a line that is none was torn or forged, and is taken as output."""
    return parse_cri(text) or LogLine(None, Stream.STDOUT, text)


def _unikernel_line(text: str) -> LogLine:
    """Read a line of a unikernel's console: its output, or in init's words how it ended."""
    line = console_line(text)
    status = exit_status(line.text)
    if status is None:
        return LogLine(None, Stream.STDOUT, line.text)
    return LogLine(None, Stream.INIT, f"exited status={status}")
