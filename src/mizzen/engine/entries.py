"""What the engine keeps for each operation that a step wants: its state, and who wants it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from mizzen.model.errors import Failure
from mizzen.model.job import JobState, Outcome
from mizzen.store import jobs, outcomes
from mizzen.store.database import transaction

from .job import Job
from .operation import (
    Build,
    Observation,
    Operation,
    Publication,
    TemporaryFailure,
    encode,
)
from .performing import Record, Task, Work, as_failure, perform
from .recalling import clash, recalled
from .states import Blocked, Failed, Ok, Running, State, Waiting

if TYPE_CHECKING:
    from .engine import Engine
    from .step import Step


class Entry:
    """An operation that is wanted. steps: by whom, and what each wants of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps: dict[Step[Any], Task] = {}
        self.state: State[Any] | None = None
        self.work: asyncio.Task[None] | None = None
        self._wanted: Task | None = None
        self._performing = False

    def want(self, step: Step[Any], task: Task) -> State[Any]:
        """Return what is known, for a step that wants a task done; begin if nobody has."""
        self.steps[step] = task
        if self._wanted is None:
            self._begin_with(task)
        elif self.work is not None and self.work.cancelling():
            self._restart()
        assert self.state is not None
        return self.state

    def let_go(self, step: Step[Any]) -> None:
        """Do for a step no more. What is under way goes on where its policy says so."""
        self.steps.pop(step, None)
        if self.steps or self.work is None:
            return
        if not self._performing or self.task.policy.auto_cancel:
            self.work.cancel()

    def rebuild(self) -> None:
        """Do it again; what is under way already is."""
        if not self._performing:
            self._restart()

    async def _make(self) -> None:
        """Bring about what is wanted."""
        raise NotImplementedError

    @property
    def task(self) -> Task:
        """What is wanted at present, or was last."""
        assert self._wanted is not None
        return self._wanted

    def show(self, state: State[Any]) -> None:
        """Have another state."""
        self.state = state
        for step in self.steps:
            step.graph.mark(step)

    def _begin_with(self, task: Task) -> None:
        self._wanted = task
        self.state = Running("starting")
        self._start(self._make())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.work = self.engine.spawn(self._guarded(work))
        self.work.add_done_callback(self._done)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.show(Failed(error))

    def _restart(self) -> None:
        """Begin anew, after what is under way has ended."""
        before = self.work
        if before is not None:
            before.cancel()

        async def after() -> None:
            if before is not None:
                await asyncio.wait({before})
            await self._make()

        self._start(after())

    async def _perform(self, work: Work, record: Record) -> Ok[Any] | Failed:
        self._performing = True
        try:
            return await perform(self.engine, self.task, work, self.show, record)
        finally:
            self._performing = False

    def _done(self, work: asyncio.Task[None]) -> None:
        if self.work is work:
            self.work = None
            if not self.steps:
                self.engine.drop(self)


class Made(Entry):
    """What builds and publications have in common: they come to an outcome that is remembered."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._checked = False  # whether what is remembered is true of the world
        self._asked = False  # whether somebody wants it done in any case

    async def _make(self) -> None:
        while True:
            task = self.task
            known = outcomes.find(self.engine.connection, task.operation.id, task.key)
            state = await self._recall(task, known) if known is not None else None
            if state is None and not self._asked:
                state = self._interrupted(task)
            self._asked = False
            if state is None:
                state = await self._do(task)
            if task.digest != self.task.digest:
                continue  # something else is wanted meanwhile
            self.show(state)
            if not isinstance(state, Ok) or task.policy.valid_for is None:
                return
            await self._expiry(task)
            self._doubt(task)

    def rebuild(self) -> None:
        """Do it again; what is under way already is."""
        if not self._performing:
            self._asked = True
            self._doubt(self.task)
            self._restart()

    def _begin(self, task: Task, job: int) -> None:
        """Be told that the world is about to be changed."""

    async def _recall(self, task: Task, known: Outcome) -> Ok[Any] | Failed | None:
        """Return what is remembered of a task, which is its pipeline's then; None to do it."""
        expired = self._left(task, known) <= 0
        state = recalled(known, task.operation, task.digest, expired=expired)
        if state is None or (isinstance(state, Ok) and not await self._holds(task, state.value)):
            return None
        if known.pipeline != task.pipeline:
            with transaction(self.engine.connection) as connection:
                outcomes.adopt(connection, task.operation.id, task.key, task.pipeline)
        if isinstance(state, Ok):
            self.engine.hits[task.operation.id] += 1
        return state

    async def _holds(self, task: Task, value: Any) -> bool:
        if self._checked or type(task.operation).holds is Operation.holds:
            return True
        self.show(Running("checking"))
        with contextlib.suppress(Exception):  # who cannot tell does it again
            job = self.engine.job(0, task.pipeline, lambda _: None)
            self._checked = await task.operation.holds(value, job)
        return self._checked

    def _interrupted(self, task: Task) -> Failed | None:
        """Return why a task is not begun again whose last run was killed, if it must not be."""
        if task.operation.repeatable:
            return None
        last = jobs.latest(self.engine.connection, task.operation.id, task.key, task.digest)
        if last is None or last.state is not JobState.INTERRUPTED or last.started is None:
            return None
        why = "Mizzen was killed meanwhile, and it may have happened or not"
        fix = f"if it has not: mizzen jobs rebuild {last.id}"
        return Failed(Failure(f"{task.label} was not finished", why, fix), last.id)

    async def _do(self, task: Task) -> Ok[Any] | Failed:
        operation = task.operation
        assert isinstance(operation, Build | Publication)
        self._checked = True

        async def work(job: Job) -> object:
            self._begin(task, job.number)
            value: object = await operation.run(job)
            return value

        def record(connection: sqlite3.Connection, job: int, result: Ok[Any] | Failed) -> None:
            outcome = self._outcome(task, job)
            if isinstance(result, Ok):
                value = msgspec.json.encode(result.value, enc_hook=encode)
                outcomes.succeed(connection, replace(outcome, value=value))
            elif not isinstance(result.error, TemporaryFailure):
                outcomes.fail(connection, outcome, as_failure(task.label, result.error, job))

        return await self._perform(work, record)

    def _outcome(self, task: Task, job: int) -> Outcome:
        return Outcome(
            operation=task.operation.id,
            key=task.key,
            pipeline=task.pipeline,
            digest=task.digest,
            at=self.engine.clock.time(),
            job=job,
        )

    def _left(self, task: Task, known: Outcome) -> float:
        """Return the seconds for which a value is valid still."""
        valid = task.policy.valid_for
        return math.inf if valid is None else known.at + valid - self.engine.clock.time()

    async def _expiry(self, task: Task) -> None:
        known = outcomes.find(self.engine.connection, task.operation.id, task.key)
        if known is not None:
            await self.engine.clock.sleep(max(0.0, self._left(task, known)))

    def _doubt(self, task: Task) -> None:
        with transaction(self.engine.connection) as connection:
            outcomes.unfail(connection, task.operation.id, task.key)


class BuildEntry(Made):
    """A build, which all steps share whose inputs are equal."""


class PublicationEntry(Made):
    """A key that a publication sets. One step says to what; others may only say the same."""

    def want(self, step: Step[Any], task: Task) -> State[Any]:
        """Return what is known; begin to set the key if it is wanted otherwise than before."""
        owner = next(iter(self.steps), step)
        if owner is not step:
            return self._second(step, owner, task)
        before = self._wanted
        state = super().want(step, task)
        self._wanted = task
        if before is None or before.digest == task.digest:
            return state
        if task.policy.auto_cancel or not self._performing or isinstance(state, Waiting):
            self.state = Running("ending what was wanted before" if self.work else "starting")
            self._restart()
        assert self.state is not None
        return self.state

    def let_go(self, step: Step[Any]) -> None:
        """Do for a step no more; another one that wants the key has its way now."""
        owner = next(iter(self.steps), None)
        super().let_go(step)
        if owner is step:
            for other in self.steps:
                other.graph.mark(other)

    def _second(self, step: Step[Any], owner: Step[Any], task: Task) -> State[Any]:
        self.steps[step] = task
        if task.digest == self.task.digest:
            return self.state or Blocked(owner, None)
        return clash(step, owner)

    def _begin(self, task: Task, job: int) -> None:
        with transaction(self.engine.connection) as connection:
            outcomes.doubt(connection, self._outcome(task, job))


class ObservationEntry(Entry):
    """A part of the world that is watched for as long as anybody wants."""

    def rebuild(self) -> None:
        """Look anew."""
        self._restart()

    def let_go(self, step: Step[Any]) -> None:
        """Watch no more if that was the last."""
        self.steps.pop(step, None)
        if not self.steps and self.work is not None:
            self.work.cancel()

    def show(self, state: State[Any]) -> None:
        """Have another state; what has been seen stays while it is looked at again."""
        if not (isinstance(self.state, Ok) and isinstance(state, Running)):
            super().show(state)

    async def _make(self) -> None:
        result = await self._perform(self._watch, _remember_nothing)
        if isinstance(result, Failed):
            self.show(result)

    async def _watch(self, job: Job) -> None:
        operation = self.task.operation
        assert isinstance(operation, Observation)
        retry = self.task.policy.retry
        failures = 0
        while True:
            values = operation.observe(job)
            try:
                async for value in values:
                    failures = 0
                    self.show(Ok(value))
                return
            except Exception as error:
                failures += 1
                wait = min(retry.delay * 2 ** min(failures - 1, 32), retry.longest)
                job.log(f"{error}; again in {wait:g} s")
                self.show(Failed(error, job.number))
                await self.engine.clock.sleep(wait)
            finally:
                await values.aclose()


def _remember_nothing(connection: sqlite3.Connection, job: int, result: Ok[Any] | Failed) -> None:
    """Do not write an outcome: the world is looked at anew."""
