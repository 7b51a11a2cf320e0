"""Incidents of machines that failed as a whole, with the last that they wrote."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path

from mizzen.host.paths import Folders
from mizzen.incidents.fingerprint import fingerprint
from mizzen.incidents.grouping import Event, Shape
from mizzen.incidents.rules import Verdict
from mizzen.machines.files import MachineFiles
from mizzen.model.incident import Incident, IncidentKind, Occurrence
from mizzen.model.log import Stream, parse_cri
from mizzen.store import incidents
from mizzen.store.database import connect, transaction

LAST_LINES = 20
"""Lines of each of a machine's logs that an incident keeps."""

TAIL = 64 << 10
"""Bytes of each that are looked at for them."""


def record(
    folders: Folders, machine: str, kind: IncidentKind, reason: str, at: float
) -> tuple[Incident, bool]:
    """Record that a machine has failed, with the last lines of its console and its log.

    at: seconds since the epoch. Return the incident, and whether this is news: what was recorded
    already, of that time or a later one, is not counted again.
    """
    files = MachineFiles.of(folders, machine)
    mark = fingerprint(Event(Stream.INIT, Shape.LINE, (reason,), None), Verdict(kind, reason))
    seen = Occurrence(machine, kind, reason, (reason, *_console(files), *_log(files)), mark, at)
    with (
        contextlib.closing(connect(folders.database)) as connection,
        transaction(connection),
    ):
        known = incidents.find_mark(connection, machine, mark)
        if known is not None and known.last_seen >= at:
            return known, False
        return incidents.record(connection, seen), True


def _console(files: MachineFiles) -> list[str]:
    return [_printable(line) for line in _last(files.console)]


def _log(files: MachineFiles) -> list[str]:
    records = (parse_cri(line) for line in _last(files.log))
    return [_printable(record.text) for record in records if record is not None]


def _last(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read(TAIL).decode(errors="replace")
    except OSError:
        return []
    return list(deque(filter(None, map(str.strip, text.split("\n"))), LAST_LINES))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)
