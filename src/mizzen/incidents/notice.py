"""From an event to the occurrence of an error that is recorded. Pure."""

from __future__ import annotations

import re

from mizzen.model.incident import Occurrence
from mizzen.model.log import LogLine, Stream

from .fingerprint import fingerprint
from .grouping import Event
from .rules import Rules

LONGEST = 500
"""Characters of a message."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])?")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e]")
_STAMPS = re.compile(r"(?:<\d>)?\[\s{0,12}\d{1,9}\.\d{6}\](?:\[\s{0,6}[TC]\d+\])? ?")


def occurrence(event: Event, rules: Rules, source: str, now: float) -> Occurrence | None:
    """Return the error that the event is, None if it is none.

    now: seconds since the epoch by the host's clock, which a guest's time may not lie beyond.
    """
    verdict = rules.judge(event)
    if verdict is None:
        return None
    lines = [printable(line) for line in event.lines]
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    time = event.time if event.time is not None and 0 < event.time <= now else now
    message = " ".join(printable(verdict.message).split())
    if len(message) > LONGEST:
        message = message[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return Occurrence(
        source=source,
        kind=verdict.kind,
        message=message or "an error without words",
        lines=tuple(lines),
        fingerprint=fingerprint(event, verdict),
        time=time,
    )


def printable(text: str) -> str:
    """Return text without what would move a terminal's cursor, colour it or deceive its reader."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def console_line(text: str) -> LogLine:
    """Read one line of the serial console: the kernel's message without its time since boot."""
    shown = printable(text.rstrip("\r").rpartition("\r")[2])
    return LogLine(None, Stream.KERNEL, _STAMPS.sub("", shown, count=1))
