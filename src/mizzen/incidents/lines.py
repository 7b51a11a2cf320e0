"""What one line of a log says: as JSON, as logfmt, or as plain text in a usual shape.

Pure. A guest wrote the line, so anything may come: whatever is neither JSON nor logfmt is text,
and no line is an error to read.

Sources: brandur.org/logfmt and go-logfmt's grammar; Go's strconv.Quote, which logrus uses;
bunyan's and pino's README for numeric levels; syslog(3) and sd-daemon(3) for ``<3>``; glog's
line format.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime

LONGEST = 4096
"""Characters of a plain line that are looked at."""

LEVEL_KEYS = ("level", "severity", "lvl", "log.level", "levelname", "loglevel")
MESSAGE_KEYS = ("msg", "message", "event", "error", "err", "exception")
TIME_KEYS = ("time", "ts", "timestamp", "@timestamp", "asctime")

_ALIASES = {
    "err": "error",
    "severe": "error",
    "e": "error",
    "crit": "critical",
    "c": "critical",
    "dpanic": "panic",
    "emergency": "emerg",
    "f": "fatal",
    "warn": "warning",
    "w": "warning",
    "information": "info",
    "i": "info",
    "d": "debug",
}
_SYSLOG = ("emerg", "alert", "critical", "error", "warning", "notice", "info", "debug")
_BUNYAN = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "fatal"}

_WORD = (
    "TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|ERR|CRITICAL|CRIT|FATAL|SEVERE|ALERT"
    "|EMERGENCY|EMERG|PANIC"
)
_STAMP = re.compile(
    r"\s*\[?(?:"
    r"\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d:\d\d)?|\d\d:\d\d:\d\d"
    r"|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+ \d{4}| \d{4})?"
    r")(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?\]?[ \t]*"
)
_FIRST = re.compile(rf"\s*(?:({_WORD})\b|[\[<(]\s*((?i:{_WORD}))\s*[\]>)])")
_LATER = re.compile(
    rf"(?:\S{{1,80}}[ \t]+){{0,4}}?(?:({_WORD})[\])|>:,]*"
    rf"|[\[<(](?:\w+:)?((?i:{_WORD}))[\]>)]:?)(?:\s|$)"
)
_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ ")
_PRIORITY = re.compile(r"<([0-7])>")
_TOLD = re.compile(r"(error|fatal)(?: error)?: ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Message:
    """What a line says.

    level: in lower case, one name for the spellings of one level; "" if the line tells none.
    text: the message itself. fields: what else a structured line holds, as text.
    time: seconds since the epoch, None if the line tells none.
    """

    level: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)
    time: float | None = None


def understand(line: str) -> Message:
    """Read a line as JSON, logfmt or plain text, whichever it is."""
    stripped = line.strip()
    if stripped.startswith("{") and stripped.endswith("}"):
        found = _from_json(stripped)
        if found is not None:
            return found
    pairs = parse_logfmt(stripped) if "=" in stripped else None
    if pairs and pairs[0][1] is not None:
        fields = {key: value or "" for key, value in pairs}
        if any(key.lower() in _KNOWN for key in fields):
            return _structured(fields, whole=line)
    return _plain(line)


def level_name(told: str) -> str:
    """Return the one name of a level, however it was spelled: "ERR", "50" and "Error" are error.

    Numbers from 0 to 7 are syslog's, from 10 on bunyan's and pino's.
    """
    name = told.strip().lower()
    if name.isascii() and name.isdigit() and len(name) <= 3:
        number = int(name)
        if number < len(_SYSLOG):
            return _SYSLOG[number]
        return _BUNYAN.get(min(number // 10 * 10, 60), "")
    return _ALIASES.get(name, name)


def parse_logfmt(text: str) -> list[tuple[str, str | None]] | None:
    r"""Read ``key=value key="a \"quoted\" value" bare``; a bare key's value is None.

    Returns None if it is no logfmt: a key is missing, a quote does not end.
    """
    pairs: list[tuple[str, str | None]] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        key = _KEY.match(text, at)
        if key is None:
            return None
        at = key.end()
        if text[at : at + 1] != "=":
            if text[at : at + 1] == '"':
                return None
            pairs.append((key[0], None))
            continue
        at += 1
        quoted = text[at : at + 1] == '"'
        value = (_QUOTED if quoted else _BARE).match(text, at)
        if value is None:
            return None
        at = value.end()
        if quoted and at < len(text) and not text[at].isspace():
            return None
        pairs.append((key[0], _ESCAPE.sub(_unescape, value[0][1:-1]) if quoted else value[0]))
    return pairs


_KEY = re.compile(r'[^\s="]+')
_BARE = re.compile(r"\S*")
_QUOTED = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v"}
_KNOWN = frozenset((*LEVEL_KEYS, *MESSAGE_KEYS))


def _unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits is None:
        return _LETTERS.get(match[4], match[4])
    number = int(digits, 16)
    return chr(number) if number <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}"


def _from_json(text: str) -> Message | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):  # {"log": {"level": ..}} is ECS's way to write log.level
            fields |= {f"{key}.{inner}": _text(deep) for inner, deep in item.items()}
        else:
            fields[key] = _text(item)
    return _structured(fields, whole=text)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


def _structured(fields: dict[str, str], whole: str) -> Message:
    lower = {key.lower(): value for key, value in fields.items()}
    level = next((lower[key] for key in LEVEL_KEYS if lower.get(key)), "")
    text = next((lower[key] for key in MESSAGE_KEYS if lower.get(key)), "")
    if not text:  # {"error": {"message": ..}}
        text = next(
            (lower[f"{key}.message"] for key in MESSAGE_KEYS if f"{key}.message" in lower), ""
        )
    time = next((_time(lower[key]) for key in TIME_KEYS if lower.get(key)), None)
    return Message(level_name(level), text or whole.strip(), fields, time)


def _time(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    for scale in (1, 1e3, 1e6, 1e9):  # seconds, or finer
        if 1e8 <= number / scale < 1e11:
            return number / scale
    return None


def _plain(line: str) -> Message:
    text = line[:LONGEST].rstrip()
    priority = _PRIORITY.match(text)
    if priority is not None:
        shaped = _shaped(text[priority.end() :])
        return Message(shaped.level or _SYSLOG[int(priority[1])], shaped.text)
    return _shaped(text)


def _shaped(text: str) -> Message:
    glog = _GLOG.match(text)
    if glog is not None:
        return Message(level_name(glog[1]), text[glog.end() :])
    stamp = _STAMP.match(text)
    if stamp is not None:
        text = text[stamp.end() :]
    found = _FIRST.match(text) or (_LATER.match(text) if stamp is not None else None)
    if found is None:
        found = _TOLD.match(text)
        return Message(found[1].lower() if found is not None else "", text.strip())
    return Message(level_name(found[1] or found[2]), text.strip())
