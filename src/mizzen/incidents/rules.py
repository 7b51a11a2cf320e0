r"""What counts as an error.

Pure. Without settings these do:

- a line whose level is error, critical, fatal, alert, emerg or panic, be it in JSON, in logfmt,
  or in a usual plain shape (``ERROR: ...``, ``2026-01-31 10:00:00 [ERROR] ...``);
- a structured line of a lower level whose message is itself such a plain line;
- a Python traceback, a Go or Rust panic, a stack of "at" lines under an exception;
- from the kernel: an oops, a BUG, a fault, a panic, a process killed for want of memory. A
  ``WARNING`` is none: the guest goes on as if nothing were, and stock kernels print some at boot;
- from init: ``fatal``, an exit with another status than 0, a death by signal. SIGTERM, SIGINT
  and SIGHUP are how a process is asked to end, so dying of them, or exiting with 128 plus their
  number, is none.

Settings add expressions to these (``match``), take some away (``ignore``, which wins), or name
other levels. An expression sees at most ``LONGEST`` characters of each line, because what a
guest writes could otherwise keep it busy.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from re import _parser  # type: ignore[attr-defined] # the only one who knows the syntax
from typing import Any

from mizzen.model.errors import Failure
from mizzen.model.incident import IncidentKind
from mizzen.model.log import Stream

from .grouping import Event, Shape
from .lines import level_name, understand

LEVELS = ("error", "critical", "fatal", "alert", "emerg", "panic")
"""Levels that are errors unless settings name others."""

LONGEST = 1024
"""Characters of a line that an expression from the settings sees."""

_KERNEL = re.compile(
    r"BUG: |watchdog: BUG: |kernel BUG at |Oops\b|Kernel panic - not syncing|Internal error: Oops"
    r"|Unable to handle kernel |(?:general protection fault|invalid opcode|divide error"
    r"|double fault|stack segment)\b.*[:,]"
    r"|(?:Memory cgroup out of memory|Out of memory): Killed process "
)
_ENDED = re.compile(r"(?:exited status|killed signal)=(\d{1,3})\b")
_ASKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_EXCEPTION = re.compile(r"[\s|+]*((?:[A-Za-z_][\w.<>]*)(?::.*|$))")
_THROWN = re.compile(r"(?:[\w.$]*(?:Exception|Error|Throwable)\b|Exception in thread |Uncaught )")


@dataclass(frozen=True, slots=True)
class Verdict:
    """An error, and the one line of it that names it."""

    kind: IncidentKind
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """levels: that are errors. match, ignore: expressions that make one, and unmake one."""

    levels: frozenset[str]
    match: tuple[re.Pattern[str], ...] = ()
    ignore: tuple[re.Pattern[str], ...] = ()

    def judge(self, event: Event) -> Verdict | None:
        """Return what error the event is, None if it is none."""
        verdict = self._judged(event)
        if verdict is None:
            kind = IncidentKind.KERNEL if event.stream is Stream.KERNEL else IncidentKind.OUTPUT
            line = next((line for line in event.lines if _any(self.match, line)), None)
            verdict = Verdict(kind, understand(line).text) if line is not None else None
        if verdict is None or verdict.kind is IncidentKind.EXIT:
            return verdict
        ignored = _any(self.ignore, verdict.message) or _any(self.ignore, event.lines[0])
        return None if ignored else verdict

    def _judged(self, event: Event) -> Verdict | None:
        if event.stream is Stream.INIT:
            return _of_init(event.lines[0])
        if event.stream is Stream.KERNEL:
            line = next((line for line in event.lines if _KERNEL.match(line)), None)
            return Verdict(IncidentKind.KERNEL, line) if line is not None else None
        return self._of_output(event)

    def _of_output(self, event: Event) -> Verdict | None:
        first = understand(event.lines[0])
        match event.shape:
            case Shape.TRACEBACK:
                return Verdict(IncidentKind.OUTPUT, exception(event.lines) or first.text)
            case Shape.GO:
                return Verdict(IncidentKind.OUTPUT, first.text)
            case Shape.RUST:
                said = " ".join(line.strip() for line in event.lines[:2])
                return Verdict(IncidentKind.OUTPUT, said)
            case Shape.STACK if _THROWN.match(event.lines[0]):
                return Verdict(IncidentKind.OUTPUT, first.text)
        inner = first.text.splitlines()[0] if first.text else ""
        if first.level in self.levels or understand(inner).level in self.levels:
            return Verdict(IncidentKind.OUTPUT, exception(first.text.splitlines()) or inner)
        return None


def rules(
    levels: Sequence[str] = LEVELS, match: Iterable[str] = (), ignore: Iterable[str] = ()
) -> Rules:
    """Return rules of these levels and expressions.

    Raises Failure if an expression is none, or could take for ever on a line made for it.
    """
    return Rules(
        frozenset(level_name(level) for level in levels),
        tuple(_compile(text) for text in match),
        tuple(_compile(text) for text in ignore),
    )


def exception(lines: Sequence[str]) -> str:
    """Return the line of a Python traceback that names the exception; "" if there is none.

    The last one not indented is the exception that was not caught; in a group, whose lines are
    all indented, it is the outermost, which comes first.
    """
    framed = any("Traceback (most recent call last):" in line for line in lines) or any(
        line.lstrip().startswith('File "') for line in lines[:1]
    )
    if not framed:
        return ""
    found = ""
    for number, line in enumerate(lines):
        match = _EXCEPTION.match(line)
        if match is None or number == 0 or "Traceback (most recent" in line:
            continue
        bare = line[:1] not in {" ", "\t"}
        if bare or (not found and line.startswith("  | ") and line[4:5] != " "):
            found = match[1]
    return found


def _of_init(text: str) -> Verdict | None:
    if text.startswith("fatal: "):
        return Verdict(IncidentKind.EXIT, text)
    ended = _ENDED.match(text)
    if ended is None:
        return None
    number = int(ended[1])
    if text.startswith("exited"):
        if number == 0 or number - 128 in _ASKED:
            return None
        return Verdict(IncidentKind.EXIT, f"the function exited with status {number}")
    if number in _ASKED:
        return None
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return Verdict(IncidentKind.EXIT, f"the function was killed by {name}")


def _any(expressions: Iterable[re.Pattern[str]], line: str) -> bool:
    return any(expression.search(line[:LONGEST]) for expression in expressions)


def _compile(text: str) -> re.Pattern[str]:
    what = f"cannot use the expression {text!r}"
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise Failure(what, str(error), "mend it under [errors] in the settings") from error
    if _nested(_parser.parse(text)):
        raise Failure(
            what,
            "a repeat inside a repeat can take for ever on a line made for it",
            "write the inner one possessive, as in (?:a++)+",
        )
    return compiled


def _nested(tree: Iterable[Any], *, repeated: bool = False) -> bool:
    """Whether an unbounded repeat that can backtrack stands inside another one.

    tree: what Python's own parser made of the expression: (operation, argument) pairs.
    """
    for operation, argument in tree:
        inside = repeated and str(operation) != "ATOMIC_GROUP"
        if str(operation) in {"MAX_REPEAT", "MIN_REPEAT"} and argument[1] is _parser.MAXREPEAT:
            if repeated:
                return True
            inside = True
        if any(_nested(part, repeated=inside) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> Iterable[Any]:
    """Yield the expressions inside an operation's argument."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _parts(part)
