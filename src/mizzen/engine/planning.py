"""What ``mizzen up`` would change: a graph is computed from what is remembered and what is so."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.job import Outcome
from mizzen.store import outcomes

from .drawing import detail
from .graph import Graph
from .job import Clock, Job
from .operation import Observation, Operation, Publication
from .recalling import clash, recalled
from .states import Blocked, Failed, Ok, Running, State
from .step import Step
from .terms import Term
from .world import PipelineWorld

LOOK_SECONDS = 60.0
"""That looking at a part of the world may take."""


class Change(StrEnum):
    """What would become of a step's result."""

    MADE = "would be made"
    SET = "would be set"
    SET_ANEW = "would be set anew"
    DEPENDS = "may change"
    FAILS = "fails"
    LEFT = "is wanted no more"
    SAME = "stays"


@dataclass(frozen=True, slots=True)
class Planned:
    """What would become of one thing.

    noun: what it is, such as "image"; "" for a step that fails and makes nothing that has a name.
    label: the step's. why: what it depends on, or its error. where: "file:line"; "" of what no
    step stands for.
    """

    pipeline: str
    noun: str
    label: str
    change: Change
    why: str
    where: str


async def plan(
    graphs: Sequence[Graph], connection: sqlite3.Connection, folders: Folders, clock: Clock
) -> list[Planned]:
    """Return what would become of everything that graphs' steps stand for; nothing is changed.

    connection: only read. The graphs cannot be used afterwards.
    """
    planner = _Planner(connection, folders, clock)
    try:
        for graph in graphs:
            graph.runner = planner
        await planner.settle(graphs)
        return [one for graph in graphs for one in _planned(graph, connection)]
    finally:
        await planner.close()


class _Planner:
    """The ``Runner`` that has nothing done: it recalls, and looks at the world."""

    def __init__(self, connection: sqlite3.Connection, folders: Folders, clock: Clock) -> None:
        self._connection = connection
        self._folders = folders
        self._clock = clock
        self._found: dict[tuple[str, str], asyncio.Task[Ok[Any] | Failed | None]] = {}
        self._owners: dict[tuple[str, str], Step[Any]] = {}
        self._waiting = 0
        self._told = asyncio.Event()

    def want(self, step: Step[Any], operation: Operation[Any]) -> State[Any]:
        """Return what is known, or that nothing is before it is done."""
        digest = operation.digest()
        if isinstance(operation, Publication):
            owner = self._owners.setdefault((operation.id, operation.key), step)
            if owner is not step and owner.wanted is not None and owner.wanted != operation:
                return clash(step, owner)
        task = self._found.get((operation.id, digest))
        if task is None:
            task = asyncio.create_task(self._look(step, operation, digest))
            self._found[operation.id, digest] = task
        if not task.done():
            self._waiting += 1
            task.add_done_callback(lambda _: self._tell(step))
            return Running("looking")
        return task.result() or Blocked(step, None)

    def unwant(self, step: Step[Any]) -> None:
        """Do nothing: what was looked at is known."""

    async def settle(self, graphs: Sequence[Graph]) -> None:
        """Compute until there is nothing more to look at."""
        for graph in graphs:
            graph.settle()
        while self._waiting:
            await self._told.wait()
            self._told.clear()
            for graph in graphs:
                graph.settle()

    async def close(self) -> None:
        """End what still looks."""
        for task in self._found.values():
            task.cancel()
        await asyncio.gather(*self._found.values(), return_exceptions=True)

    def _tell(self, step: Step[Any]) -> None:
        self._waiting -= 1
        step.graph.mark(step)
        self._told.set()

    async def _look(
        self, step: Step[Any], operation: Operation[Any], digest: str
    ) -> Ok[Any] | Failed | None:
        world = PipelineWorld(self._connection, step.graph.name)
        job = Job(0, step.graph.name, self._folders, self._clock, world, lambda _: None)
        try:
            if isinstance(operation, Observation):
                return await _seen(operation, job)
            return await self._recall(step, operation, digest, job)
        except Exception as error:
            return Failed(error)

    async def _recall(
        self, step: Step[Any], operation: Operation[Any], digest: str, job: Job
    ) -> Ok[Any] | Failed | None:
        """Return what the engine would, instead of doing it; None if it would do it."""
        key = operation.key if isinstance(operation, Publication) else digest
        known = outcomes.find(self._connection, operation.id, key)
        if known is None:
            return None
        valid = step.policy.valid_for
        expired = valid is not None and known.at + valid <= self._clock.time()
        with contextlib.suppress(Exception):  # nobody can tell
            state = recalled(known, operation, digest, expired=expired)
            told = not isinstance(state, Ok) or await operation.holds(state.value, job)
            return state if told else None
        return None


async def _seen(operation: Observation[Any], job: Job) -> Ok[Any] | Failed:
    """Return what an observation tells first."""
    async with contextlib.aclosing(operation.observe(job)) as values:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return Ok(await anext(values))
        except (StopAsyncIteration, TimeoutError):
            why = f"it told nothing within {LOOK_SECONDS:g} s"
            return Failed(Failure(f"cannot look at {operation}", why))


def _planned(graph: Graph, connection: sqlite3.Connection) -> Iterator[Planned]:
    steps = [term for term in graph.terms.values() if isinstance(term, Step)]
    known = {
        kind.id: {one.key: one for one in outcomes.of_pipeline(connection, kind.id, graph.name)}
        for kind in {step.operation for step in steps if issubclass(step.operation, Publication)}
    }
    for term in graph.terms.values():
        if not term.drawn:
            continue
        noun = term.operation.noun if isinstance(term, Step) else ""
        change = _change(term, known)
        if change is Change.FAILS or (noun and not _looks(term)):
            why = "" if change is Change.SAME else detail(term)
            why = f"depends {why}" if change is Change.DEPENDS else why
            yield Planned(graph.name, noun, term.label, change, why, str(term.where))
    yield from _left(graph.name, steps, known)


def _looks(term: Term[Any]) -> bool:
    return isinstance(term, Step) and issubclass(term.operation, Observation)


def _change(term: Term[Any], known: dict[str, dict[str, Outcome]]) -> Change:
    state = term.state
    if isinstance(state, Ok):
        return Change.SAME
    if isinstance(state, Failed):
        return Change.FAILS
    if not isinstance(term, Step) or not isinstance(state, Blocked) or state.on is not term:
        return Change.DEPENDS
    if not isinstance(term.wanted, Publication):
        return Change.MADE
    return Change.SET_ANEW if term.wanted.key in known[term.operation.id] else Change.SET


def _left(
    pipeline: str, steps: Iterable[Step[Any]], known: dict[str, dict[str, Outcome]]
) -> Iterator[Planned]:
    """Yield what was set and no step stands for, where all keys are known."""
    by_kind: dict[type[Operation[Any]], list[Step[Any]]] = {}
    for step in steps:
        by_kind.setdefault(step.operation, []).append(step)
    for kind, those in by_kind.items():
        if not kind.noun or kind.id not in known or any(one.wanted is None for one in those):
            continue
        wanted = {one.wanted.key for one in those if isinstance(one.wanted, Publication)}
        for key in known[kind.id].keys() - wanted:
            yield Planned(pipeline, kind.noun, f"{kind.id} {key}", Change.LEFT, "", "")
