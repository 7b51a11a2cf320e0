"""Errors in the journal of a systemd unit that runs VMs.

Such a unit writes for many VMs: a line in logfmt or JSON that names one (``vmID=2``) is that
VM's, with the source "vm 2"; any other is the unit's own. Lines of different processes are
grouped apart.

Source: journal-export and JSON format at systemd.io/JOURNAL_EXPORT_FORMATS; journalctl(1).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mizzen.host import process
from mizzen.model.errors import Failure
from mizzen.model.incident import Occurrence
from mizzen.model.log import LogLine, Stream

from .grouping import Event, Grouper, Open
from .lines import understand
from .notice import occurrence
from .rules import Rules

VM_KEYS = ("vmid", "vm_id", "vm-id", "vm")
BATCH = 500

_ID = re.compile(r"[\w.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal. cursor: its place; process: whose it is; time: since the epoch."""

    cursor: str
    text: str
    priority: int
    process: str
    time: float | None


@dataclass(slots=True)
class JournalState:
    """How far a unit's journal has been taken in, and the events that were open there."""

    cursor: str = ""
    open: dict[str, Open] = field(default_factory=dict)


class UnitFollower:
    """Takes in the journal of one unit."""

    def __init__(self, unit: str, rules: Rules, saved: bytes | None) -> None:
        self.source = f"unit {unit}"
        self._rules = rules
        self.state = JournalState()
        if saved is not None:
            self.state = msgspec.json.decode(saved, type=JournalState)
        self._grouper = Grouper(self.state.open)
        self._grouper.restart(time.monotonic())

    def take(self, entries: list[Entry]) -> list[Occurrence]:
        """Return the errors that these entries end, and those that are over by now."""
        events: list[Event] = []
        for entry in entries:
            # sd-daemon(3): the priority that journald took off the line
            prefix = f"<{entry.priority}>" if entry.priority < 4 else ""
            for number, text in enumerate(entry.text.split("\n")):
                line = LogLine(entry.time, Stream.STDERR, text if number else prefix + text)
                events += self._grouper.add(entry.process, line, time.monotonic())
            self.state.cursor = entry.cursor
        events += self._grouper.expire(time.monotonic())
        now = time.time()
        found = (occurrence(one, self._rules, self._source_of(one), now) for one in events)
        return [one for one in found if one is not None]

    def saved(self) -> bytes:
        """Return all that is needed to go on from here."""
        return msgspec.json.encode(self.state)

    @property
    def deadline(self) -> float | None:
        """When, by the monotonic clock, an open event is over if nothing comes."""
        return self._grouper.deadline

    def _source_of(self, event: Event) -> str:
        fields = {key.lower(): value for key, value in understand(event.lines[0]).fields.items()}
        named = next((fields[key] for key in VM_KEYS if key in fields), "")
        return f"vm {named}" if _ID.fullmatch(named) else self.source


def parse_entry(line: bytes) -> Entry | None:
    """Read an entry as ``journalctl -o json`` prints it; None if it has no message."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    text = _message(told.get("MESSAGE"))
    cursor = told.get("__CURSOR")
    if text is None or not isinstance(cursor, str):
        return None
    try:
        seconds = int(str(told.get("__REALTIME_TIMESTAMP"))) / 1e6
    except (ValueError, OverflowError):
        seconds = None
    priority = str(told.get("PRIORITY"))
    return Entry(
        cursor=cursor,
        text=text,
        priority=int(priority) if re.fullmatch("[0-7]", priority) else 6,
        process=str(told.get("_PID", ""))[:20],
        time=seconds,
    )


def _message(value: object) -> str | None:
    """Return a field's text; one that is not UTF-8 comes as an array of its bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        try:
            return bytes(value).decode(errors="replace")
        except (TypeError, ValueError):  # a field given several times: the first counts
            return value[0] if isinstance(value[0], str) else None
    return None


async def newest(unit: str, *place: str | Path) -> str:
    """Return the cursor of the unit's last entry; "" if it never wrote one.

    place: options that say which journal ("--directory=..."); the system's without.
    """
    done = await process.run(
        *_command(unit, place), "--lines=1", what=f"cannot read the journal of {unit}"
    )
    entry = parse_entry(done.stdout)
    return entry.cursor if entry is not None else ""


async def entries(unit: str, cursor: str, *place: str | Path) -> AsyncGenerator[Entry, None]:
    """Yield the unit's entries after the cursor, those that have come and those that come."""
    # --follow alone means this boot's entries, and fails on a journal that has none yet;
    # --merge is the one option that takes that back (--boot=all does not in systemd 252).
    command = [*_command(unit, place), "--merge", "--follow", "--no-tail"]
    if cursor:
        command.append(f"--after-cursor={cursor}")
    what = f"cannot follow the journal of {unit}"
    async with contextlib.aclosing(process.stream(*command, what=what)) as lines:
        async for line in lines:
            entry = parse_entry(line)
            if entry is not None:
                yield entry


async def batches(
    source: AsyncGenerator[Entry, None], follower: UnitFollower
) -> AsyncGenerator[list[Entry], None]:
    """Yield entries as they come, and an empty list whenever an open event may be over."""
    came: asyncio.Queue[Entry | Failure | None] = asyncio.Queue(BATCH)

    async def read() -> None:
        try:
            async with contextlib.aclosing(source):
                async for entry in source:
                    await came.put(entry)
            await came.put(None)
        except Failure as failure:
            await came.put(failure)

    reader = asyncio.create_task(read())
    try:
        while True:
            try:
                async with asyncio.timeout_at(_loop_time(follower.deadline)):
                    items = [await came.get()]
            except TimeoutError:
                yield []
                continue
            while not came.empty():
                items.append(came.get_nowait())
            yield [item for item in items if isinstance(item, Entry)]
            if isinstance(items[-1], Failure):
                raise items[-1]
            if items[-1] is None:
                return
    finally:
        reader.cancel()
        await asyncio.wait({reader})


def _loop_time(monotonic: float | None) -> float | None:
    if monotonic is None:
        return None
    return asyncio.get_running_loop().time() + max(monotonic - time.monotonic(), 0)


def _command(unit: str, place: tuple[str | Path, ...]) -> list[str]:
    return [
        "journalctl",
        "--output=json",
        "--all",
        "--quiet",
        "--no-pager",
        "--output-fields=MESSAGE,PRIORITY,_PID",
        f"--unit={unit}",
        *(str(option) for option in place),
    ]
