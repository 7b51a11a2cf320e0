"""Follow every machine, and a journald unit if asked, and record the errors they show.

Errors and how far a source has been followed go into the database in one transaction: whenever
this process dies, the next one goes on where the record ends, and counts no error twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mizzen.host.changes import Changes
from mizzen.host.files import locked
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId, ended
from mizzen.machines.files import MachineFiles
from mizzen.model.errors import Failure
from mizzen.model.incident import Incident, Occurrence
from mizzen.model.machine import Machine, MachineState
from mizzen.store import followed, incidents, machines

from . import journal
from .journal import UnitFollower
from .machine import MachineFollower
from .rules import Rules

REFRESH = 1.0
"""Seconds after which the list of machines, and a folder that is missing, are looked at again."""

SAVE = 30.0
"""Seconds after which progress without errors is saved; more often would only wear the disk."""

GRACE = 2.0
"""Seconds that whoever stopped a machine has to record it, before its end counts as an error."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An error that was just recorded. new: it was never seen before."""

    incident: Incident
    new: bool


class Watcher:
    """Follows machines and a unit until cancelled; tells what it recorded through a callback."""

    def __init__(
        self,
        folders: Folders,
        connection: sqlite3.Connection,
        rules: Rules,
        on_seen: Callable[[Seen], None],
    ) -> None:
        self._folders = folders
        self._connection = connection
        self._rules = rules
        self._on_seen = on_seen
        self._following: dict[str, tuple[tuple[int, int], asyncio.Task[None]]] = {}

    async def run(self, unit: str | None = None, place: Sequence[str] = ()) -> None:
        """Follow all there is and all that comes.

        place: journalctl's options that say which journal; the system's without.
        Raises Failure if another process does already, or if recording becomes impossible.
        """
        busy = Failure(
            "cannot watch",
            "another mizzen watches here",
            "see what it noticed: mizzen incidents list",
        )
        with locked(self._folders.runtime / "watch.lock", busy), Changes() as changes:
            try:
                async with asyncio.TaskGroup() as group:
                    if unit is not None:
                        group.create_task(self._follow_unit(unit, place))
                    while True:
                        self._refresh(group, changes)
                        await asyncio.sleep(REFRESH)
            except BaseExceptionGroup as errors:  # except* would wrap what is raised in it
                raise _first(errors) from errors

    def _refresh(self, group: asyncio.TaskGroup, changes: Changes) -> None:
        """Begin to follow machines that are new, forget those that are no more."""
        there = {machine.spec.name: machine for machine in machines.everything(self._connection)}
        for name, machine in there.items():
            run = (machine.pid, machine.pid_start)
            known = self._following.get(name)
            if run == (0, 0) or (known is not None and known[0] == run):
                continue
            if known is not None and not known[1].done():
                continue  # its log is still read to the end
            self._following[name] = (run, group.create_task(self._follow(machine, changes)))
        for name in self._following.keys() - there.keys():
            self._following.pop(name)[1].cancel()
        saved = followed.sources(self._connection)
        followed.forget(
            self._connection,
            [name for name in saved if " " not in name and name not in there],
        )

    async def _follow(self, machine: Machine, changes: Changes) -> None:
        """Follow one machine until its VMM has ended and all it wrote has been taken in."""
        name = machine.spec.name
        files = MachineFiles.of(self._folders, name)
        follower = MachineFollower(
            name,
            files,
            self._rules,
            followed.state(self._connection, name),
            unikernel=machine.spec.unikernel,
        )
        follower.begin((machine.pid, machine.pid_start))
        end = asyncio.create_task(ended(ProcessId(machine.pid, machine.pid_start)))
        saved_at = time.monotonic()
        try:
            while True:
                changed = changes.watch(files.logs)
                if changed is not None:
                    changed.clear()
                last = end.done()
                found, came = follower.take(last=last)
                if found or time.monotonic() - saved_at > SAVE:
                    self._record(name, found, follower.saved())
                    saved_at = time.monotonic()
                if came:
                    await asyncio.sleep(0)
                elif last:
                    break
                else:
                    await _any_of(changed, end, follower.deadline)
            reason = None if follower.state.over else await self._reason(machine)
            self._record(name, follower.end(reason), follower.saved())
        finally:
            end.cancel()
            follower.close()

    async def _reason(self, machine: Machine) -> str | None:
        """Return why a VMM ended; None if somebody wanted it or nobody cares any more."""
        deadline = time.monotonic() + GRACE
        while True:
            now = machines.find(self._connection, machine.spec.name)
            if now is None or (now.pid, now.pid_start) != (machine.pid, machine.pid_start):
                return None
            if now.state is MachineState.STOPPED:
                return None
            if now.state is MachineState.FAILED or time.monotonic() > deadline:
                return now.reason
            await asyncio.sleep(GRACE / 20)

    async def _follow_unit(self, unit: str, place: Sequence[str]) -> None:
        source = f"unit {unit}"
        saved = followed.state(self._connection, source)
        follower = UnitFollower(unit, self._rules, saved)
        if saved is None:  # what lies before the first watch is history
            follower.state.cursor = await journal.newest(unit, *place)
            self._record(source, [], follower.saved())
        saved_at = time.monotonic()
        entries = journal.entries(unit, follower.state.cursor, *place)
        async with contextlib.aclosing(journal.batches(entries, follower)) as batches:
            async for batch in batches:
                found = follower.take(batch)
                if found or time.monotonic() - saved_at > SAVE:
                    self._record(source, found, follower.saved())
                    saved_at = time.monotonic()

    def _record(self, source: str, found: Iterable[Occurrence], state: bytes) -> None:
        recorded = incidents.take_in(self._connection, found, source, state)
        for incident in recorded:
            self._on_seen(Seen(incident, new=incident.count == 1))


async def _any_of(
    changed: asyncio.Event | None, end: asyncio.Task[bool], deadline: float | None
) -> None:
    """Wait until a file changed, the VMM ended, or it is time to look anyway."""
    seconds = REFRESH if changed is None else None
    if deadline is not None:
        left = max(deadline - time.monotonic(), 0)
        seconds = left if seconds is None else min(seconds, left)
    waits: set[asyncio.Task[bool]] = {end}
    if changed is not None:
        waits.add(asyncio.create_task(changed.wait()))
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits - {end}:
            wait.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure to tell of, or what else went wrong."""
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _first(first)
    if isinstance(first, sqlite3.Error):
        return Failure("cannot record errors", str(first), "check the disk's space and permissions")
    return first
