"""The engine: keeps graphs up to date, and has done what their steps want."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.job import JobState
from mizzen.store import jobs
from mizzen.store.database import transaction

from .entries import BuildEntry, Entry, ObservationEntry, PublicationEntry
from .graph import Graph
from .job import Clock, Job
from .joblog import JobLogs
from .operation import Build, Operation, Publication
from .performing import Active, Task
from .policy import Level
from .pools import Pools
from .states import Ok, State
from .step import Step
from .terms import Term
from .world import PipelineWorld


class Engine:
    """Runs pipelines; the ``Runner`` of their graphs. It belongs to the running event loop.

    confirm: jobs of this level and above wait until somebody releases them; None lets all go.
    on_end: called with each job that has ended. on_change: with each term of the graphs that are
    added from then on whose state has changed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        folders: Folders,
        clock: Clock,
        *,
        confirm: Level | None = None,
    ) -> None:
        self.connection = connection
        self.folders = folders
        self.clock = clock
        self.confirm = confirm
        self.graphs: list[Graph] = []
        self.pools = Pools()
        self.logs = JobLogs(connection, clock)
        self.active: dict[int, Active] = {}
        self.hits: Counter[str] = Counter()
        self.stopping = False
        self.on_end: Callable[[int, Task, JobState], None] = lambda *_: None
        self.on_change: Callable[[Term[Any]], None] = lambda _: None
        self._entries: dict[tuple[str, str], Entry] = {}
        self._of: dict[Step[Any], Entry] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._woken = False
        self._changed = asyncio.Event()
        with transaction(connection):
            jobs.interrupt(connection, clock.time())
            jobs.trim(connection)

    def add(self, graph: Graph) -> None:
        """Begin to keep a graph up to date."""
        self.graphs.append(graph)
        graph.runner = self
        graph.wake = self._wake
        graph.changed = self.on_change
        self._wake()

    async def stop(self) -> None:
        """End all jobs; what they were at goes on when an engine starts again."""
        self.stopping = True
        while self._tasks:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks)
        self.logs.flush()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, which only terms' changes make so."""
        while not condition():
            await self._changed.wait()

    # For steps

    def want(self, step: Step[Any], operation: Operation[Any]) -> State[Any]:
        """Return what is known of an operation's value, and mark the step when that changes."""
        task = self._task(step, operation)
        key = operation.id, task.key
        entry = self._entries.get(key)
        before = self._of.get(step)
        if before is not None and before is not entry:
            self._let_go(step, before)
        if entry is None:
            entry = self._entries[key] = _entry(self, operation)
        self._of[step] = entry
        return entry.want(step, task)

    def unwant(self, step: Step[Any]) -> None:
        """Let go of what a step wanted."""
        entry = self._of.pop(step, None)
        if entry is not None:
            self._let_go(step, entry)

    # For whoever asks: the numbers are jobs'

    def start(self, job: int) -> None:
        """Release a job that waits to be confirmed. Raises Failure."""
        what = f"cannot start job {job}"
        active = self._active(what, job)
        with _written(what), transaction(self.connection):
            if not jobs.confirm(self.connection, job):
                raise self._not_so(what, job)
        active.confirmed.set()

    def cancel(self, job: int) -> None:
        """End a job. Raises Failure."""
        active = self._active(f"cannot cancel job {job}", job)
        active.cancelled = True
        active.confirmed.set()
        if active.work is not None:
            active.work.cancel()

    def rebuild(self, job: int) -> None:
        """Do again what a job did, if a step still wants that. Raises Failure."""
        what = f"cannot rebuild job {job}"
        record = jobs.find(self.connection, job)
        if record is None:
            raise Failure(what, "there is none of that number", "see: mizzen jobs list")
        entry = self._entries.get((record.operation, record.key))
        if entry is None or not entry.steps:
            why = "no step wants its result any more"
            raise Failure(what, why, "see: mizzen jobs list --state failed")
        with _written(what):
            entry.rebuild()

    def wanted(self, operation: str) -> frozenset[str]:
        """Return the keys of a publication that steps stand for at present."""
        return frozenset(
            key for (kind, key), entry in self._entries.items() if kind == operation and entry.steps
        )

    def known(self) -> Iterator[object]:
        """Yield the values that steps have at present, and the operations that they want done."""
        for graph in self.graphs:
            for term in graph.terms.values():
                if isinstance(term, Step):
                    yield from (term.state.value,) if isinstance(term.state, Ok) else ()
                    yield from (term.wanted,) if term.wanted is not None else ()

    # For entries

    def job(self, number: int, pipeline: str, log: Callable[[str], None]) -> Job:
        """Return what an operation has while it runs."""
        world = PipelineWorld(self.connection, pipeline, self.wanted, self.known)
        return Job(number, pipeline, self.folders, self.clock, world, log)

    def _task(self, step: Step[Any], operation: Operation[Any]) -> Task:
        """Return what a step wants done."""
        digest = operation.digest()
        key = operation.key if isinstance(operation, Publication) else digest
        return Task(operation, key, digest, step.label, step.graph.name, step.policy)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until the engine stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def drop(self, entry: Entry) -> None:
        """Drop an entry that nobody wants and nothing is done for."""
        for key, one in list(self._entries.items()):
            if one is entry:
                del self._entries[key]

    def ended(self, job: int, task: Task, state: JobState) -> None:
        """Be told that a job has ended."""
        self.on_end(job, task, state)
        self.logs.tell()

    def _let_go(self, step: Step[Any], entry: Entry) -> None:
        entry.let_go(step)
        if not entry.steps and entry.work is None:
            self.drop(entry)

    def _active(self, what: str, job: int) -> Active:
        if job in self.active:
            return self.active[job]
        raise self._not_so(what, job)

    def _not_so(self, what: str, job: int) -> Failure:
        record = jobs.find(self.connection, job)
        why = f"it is {record.state}" if record is not None else "there is none of that number"
        return Failure(what, why, "see: mizzen jobs list")

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._woken = False
        if self.stopping:
            return
        for graph in self.graphs:
            try:
                graph.settle()
            finally:
                if not graph.settled:  # somebody who was told of a change failed
                    self._wake()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@contextlib.contextmanager
def _written(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Failure(what, str(error), "check the disk's space and permissions") from error


def _entry(engine: Engine, operation: Operation[Any]) -> Entry:
    if isinstance(operation, Publication):
        return PublicationEntry(engine)
    return BuildEntry(engine) if isinstance(operation, Build) else ObservationEntry(engine)
