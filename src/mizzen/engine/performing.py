"""Performing an operation: one job, from its confirmation to what it came to."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mizzen.model.errors import Failure
from mizzen.model.job import JobRecord, JobState
from mizzen.store import jobs as store
from mizzen.store.database import transaction

from .job import Job
from .operation import Observation, Operation, TemporaryFailure
from .policy import Policy
from .states import Failed, Ok, Running, State, Waiting

if TYPE_CHECKING:
    from .engine import Engine

Work = Callable[[Job], Coroutine[Any, Any, Any]]
Record = Callable[[sqlite3.Connection, int, Ok[Any] | Failed], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be performed. key: what its outcome is remembered under."""

    operation: Operation[Any]
    key: str
    digest: str
    label: str
    pipeline: str
    policy: Policy


@dataclass(slots=True)
class Active:
    """A job that has not ended. work: the attempt under way."""

    task: Task
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[Any] | None = None
    cancelled: bool = False


class _Cancelled(Exception):  # noqa: N818 - it is no error
    """Somebody has cancelled the job."""


async def perform(
    engine: Engine,
    task: Task,
    work: Work,
    show: Callable[[State[Any]], None],
    record: Record,
) -> Ok[Any] | Failed:
    """Do a task's work, with a job, and return what it came to.

    show: told of the states on the way. record: writes the outcome, in the transaction that
    writes the job's end. Cancelled, it ends the work and its processes first.
    """
    try:
        return await _Performance(engine, task, work, show, record).run()
    except sqlite3.Error as error:
        fix = "free some disk space, then: mizzen jobs rebuild --failed"
        return Failed(Failure(f"cannot record {task.label}", str(error), fix))


class _Performance:
    def __init__(
        self,
        engine: Engine,
        task: Task,
        work: Work,
        show: Callable[[State[Any]], None],
        record: Record,
    ) -> None:
        self._engine = engine
        self._task = task
        self._work = work
        self._show = show
        self._record = record
        self._active = Active(task)
        self._job = 0

    async def run(self) -> Ok[Any] | Failed:
        opened = self._open()
        self._job = opened.id
        engine, task = self._engine, self._task
        engine.active[self._job] = self._active
        try:
            if opened.state is JobState.WAITING:
                self._show(Waiting(self._job))
                await self._active.confirmed.wait()
            if self._active.cancelled:
                raise _Cancelled
            self._show(Running("queued", self._job))
            async with engine.pools.place(task.policy.pool):
                result = await self._attempts()
        except _Cancelled:
            fix = f"run: mizzen jobs rebuild {self._job}"
            error = Failure(f"{task.label} was cancelled", "somebody asked for that", fix)
            return self._end(JobState.CANCELLED, Failed(error, self._job))
        except asyncio.CancelledError:
            self._drop()
            raise
        finally:
            engine.active.pop(self._job, None)
            engine.logs.close(self._job)
        state = JobState.OK if isinstance(result, Ok) else JobState.FAILED
        return self._end(state, result)

    def _open(self) -> JobRecord:
        engine, task = self._engine, self._task
        ask = engine.confirm is not None and task.policy.level >= engine.confirm
        wanted = JobRecord(
            id=0,
            pipeline=task.pipeline,
            operation=task.operation.id,
            key=task.key,
            digest=task.digest,
            label=task.label,
            level=task.policy.level,
            state=JobState.WAITING if ask else JobState.QUEUED,
            confirmed=False,
            created=engine.clock.time(),
            started=None,
            ended=None,
            attempts=0,
            error="",
        )
        with transaction(engine.connection) as connection:
            return store.open_job(
                connection, wanted, endless=isinstance(task.operation, Observation)
            )

    async def _attempts(self) -> Ok[Any] | Failed:
        attempt = 0
        while True:
            attempt += 1
            with transaction(self._engine.connection) as connection:
                store.begin(connection, self._job, self._engine.clock.time())
            self._show(Running(self._task.label, self._job))
            result = await self._attempt()
            if isinstance(result, Ok):
                return result
            temporary = isinstance(result.error, TemporaryFailure)
            wait = self._task.policy.retry.wait(attempt) if temporary else None
            if wait is None:
                return result
            self._log(f"{result.error}; again in {wait:g} s")
            self._show(Running(f"again in {wait:g} s: {result.error}", self._job))
            await self._cancellable(self._engine.clock.sleep(wait))

    async def _attempt(self) -> Ok[Any] | Failed:
        engine, task = self._engine, self._task
        job = engine.job(self._job, task.pipeline, self._log)
        limit = task.policy.timeout
        try:
            async with asyncio.timeout(limit) as timeout:
                return Ok(await self._cancellable(self._work(job)))
        except TimeoutError as error:
            if not timeout.expired():
                return self._failed(error)
            self._log(f"not done after {limit:g} s")
            why = f"it was not done after {limit:g} s"
            late = Failure(f"{task.label} was ended", why, "allow it a longer timeout")
            return Failed(late, self._job)
        except _Cancelled:
            raise
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> Failed:
        if isinstance(error, Failure):
            self._log(str(error))
            for note in getattr(error, "__notes__", ()):
                self._log(note)
        else:
            self._log("".join(traceback.format_exception(error)))
        return Failed(error, self._job)

    async def _cancellable(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait for work that whoever cancels the job can end."""
        self._active.work = asyncio.create_task(work)
        try:
            return await self._active.work
        except asyncio.CancelledError:
            if self._active.cancelled and self._active.work.cancelled():
                raise _Cancelled from None
            raise
        finally:
            if not self._active.work.done():
                self._active.work.cancel()
                await asyncio.wait({self._active.work})
            self._active.work = None

    def _end(self, state: JobState, result: Ok[Any] | Failed) -> Ok[Any] | Failed:
        error = None
        if isinstance(result, Failed):
            result = Failed(result.error, self._job)
            error = as_failure(self._task.label, result.error, self._job)
        self._engine.logs.flush()
        with transaction(self._engine.connection) as connection:
            store.finish(connection, self._job, state, self._engine.clock.time(), error)
            self._record(connection, self._job, result)
        self._engine.ended(self._job, self._task, state)
        return result

    def _drop(self) -> None:
        """Write that nobody waits for the job: the engine ends, or wants something else."""
        state = JobState.INTERRUPTED if self._engine.stopping else JobState.CANCELLED
        with contextlib.suppress(sqlite3.Error):  # the next start finds what ran
            self._engine.logs.flush()
            with transaction(self._engine.connection) as connection:
                store.finish(connection, self._job, state, self._engine.clock.time())
        self._engine.ended(self._job, self._task, state)

    def _log(self, text: str) -> None:
        self._engine.logs.write(self._job, text)


def as_failure(label: str, error: Exception, job: int) -> Failure:
    """Return any exception as what a user is told."""
    if isinstance(error, Failure):
        return error
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(f"{label} failed", words, f"see: mizzen jobs logs {job}")
