"""What makes two errors the same: equal for those that a person would call one error.

Pure. Of a message, whatever differs between two times is taken away: times, numbers, addresses,
ids. Of a traceback its exceptions and functions count, not their lines and messages; of an oops
its kind and the function it happened in, not the offset.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mizzen.model.incident import IncidentKind

from .grouping import Event, Shape
from .rules import Verdict

LENGTH = 16
LONGEST = 1000
"""Characters of a message that count."""

FRAMES = 50
"""Frames of a stack that count: those nearest to the error."""

_VARYING = (
    (
        re.compile(r"\"[^\"\n]{0,200}?[0-9][^\"\n]{0,200}?\"|'[^'\n]{0,200}?[0-9][^'\n]{0,200}?'"),
        "<id>",
    ),
    (re.compile(r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ][0-9:.,]+(?:Z|[+-][0-9:]+)?"), "<time>"),
    (re.compile(r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b0[xX][0-9A-Fa-f]+\b"), "<hex>"),
    (
        re.compile(r"(?<![\w:])(?=[0-9A-Fa-f:]*[0-9])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}"),
        "<ip>",
    ),
    (re.compile(r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b"), "<ip>"),
    (re.compile(r"\b(?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}\b"), "<hex>"),
    (re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*"), "<n>"),
)
_FRAME = re.compile(r'[\s|]*File "(.{0,400}?)", line \d+(?:, in (.{1,200}))?$')
_RAISED = re.compile(r"[\s|+]*([A-Za-z_][\w.<>]*)(?::|$)")
_AT = re.compile(r"\s+at (.*)")
_GO_CALL = re.compile(r"([\w./*()-]{1,200})\(")
_RIP = re.compile(r"(?:RIP: [0-9a-f]{4}:|pc : )([A-Za-z_][\w.]*)\+0x")


def fingerprint(event: Event, verdict: Verdict) -> str:
    """Return 16 hexadecimal digits that are equal for equal errors."""
    brief = replace(verdict, message=verdict.message[:LONGEST])
    parts = [verdict.kind.value, *_essence(event, brief)]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:LENGTH]


def normalised(text: str) -> str:
    """Return a message without what differs from one time to the next."""
    for expression, name in _VARYING:
        text = expression.sub(name, text)
    return " ".join(text.split())


def _essence(event: Event, verdict: Verdict) -> list[str]:
    if verdict.kind is IncidentKind.EXIT:
        return [verdict.message]  # here the number says which error it is
    match event.shape:
        case Shape.TRACEBACK:
            return _traceback(event.lines) or [normalised(verdict.message)]
        case Shape.KERNEL:
            return _oops(event.lines, verdict.message)
        case Shape.STACK:
            frames = (match[1][:200] for line in event.lines if (match := _AT.match(line)))
            return [_type(verdict.message), *_few(map(normalised, frames))]
        case Shape.GO:
            calls = (
                match[1]
                for line in _first_goroutine(event.lines)
                if (match := _GO_CALL.match(line))
            )
            return [normalised(verdict.message), *_few(calls)]
    return [normalised(verdict.message)]


def _traceback(lines: Sequence[str]) -> list[str]:
    essence: list[str] = []
    framed = False
    for line in lines:
        frame = _FRAME.match(line)
        if frame is not None:
            framed = True
            seen = f"{frame[1]}:{frame[2] or ''}"
            if essence[-1:] != [seen]:  # recursion is the same error at any depth
                essence.append(seen)
        elif framed and line.lstrip("| ")[:1] == line[_margin(line) :][:1]:
            raised = _RAISED.match(line)
            if raised is not None:
                essence.append(raised[1])
                framed = False
    return essence[-FRAMES:]


def _margin(line: str) -> int:
    """Columns before a line of a traceback: 0, or past the bar of an exception group."""
    bar = line.rfind("| ", 0, 40)
    return bar + 2 if bar >= 0 and not line[:bar].strip("| ") else 0


def _oops(lines: Sequence[str], message: str) -> list[str]:
    place = next((match[1] for line in lines if (match := _RIP.match(line))), "")
    kind = message.split(",", maxsplit=1)[0] if place else message
    return [normalised(kind), place.partition(".")[0]]


def _type(message: str) -> str:
    return normalised(message.partition(":")[0])


def _first_goroutine(lines: Sequence[str]) -> Iterable[str]:
    seen = False
    for line in lines:
        if line.startswith("goroutine "):
            if seen:
                return
            seen = True
        elif seen:
            yield line


def _few(frames: Iterable[str]) -> list[str]:
    return [frame for frame, _ in zip(frames, range(FRAMES), strict=False)]
