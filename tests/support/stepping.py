"""An engine whose operations do what tests tell them, and a clock wound by hand."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, ClassVar

from manual_clock import ManualClock

from mizzen.engine.engine import Engine
from mizzen.engine.job import Job
from mizzen.engine.operation import Build, Observation, Publication
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.policy import Level
from mizzen.engine.states import Blocked, Failed, Ok, Running, Waiting
from mizzen.engine.step import Step
from mizzen.host.paths import Folders
from mizzen.model.job import Outcome
from mizzen.store import database, outcomes


class World:
    """What operations find and do, by name."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.runs: list[str] = []
        self.running: dict[str, asyncio.Future[str]] = {}
        self.seen: dict[str, asyncio.Queue[str | Exception]] = {}
        self.holds = True

    def begin(self, name: str) -> asyncio.Future[str]:
        self.runs.append(name)
        self.running[name] = asyncio.get_running_loop().create_future()
        return self.running[name]

    def see(self, name: str, value: str | Exception) -> None:
        self.seen.setdefault(name, asyncio.Queue()).put_nowait(value)

    def finish(self, name: str, value: str | Exception) -> None:
        if isinstance(value, Exception):
            self.running.pop(name).set_exception(value)
        else:
            self.running.pop(name).set_result(value)


world = World()


class Compile(Build[str], frozen=True, kw_only=True):
    id: ClassVar[str] = "compile"
    source: str
    flags: tuple[str, ...] = ()

    async def run(self, job: Job) -> str:
        job.log(f"compiling {self.source}")
        try:
            return await world.begin(self.source)
        except asyncio.CancelledError:
            world.runs.append(f"{self.source} ended")
            raise

    async def holds(self, value: str, job: Job) -> bool:
        return world.holds


class Deploy(Publication[str], frozen=True, kw_only=True):
    id: ClassVar[str] = "deploy"
    name: str
    what: str

    @property
    def key(self) -> str:
        return self.name

    async def run(self, job: Job) -> str:
        try:
            return await world.begin(f"{self.name}={self.what}")
        except asyncio.CancelledError:
            world.runs.append(f"{self.name}={self.what} ended")
            raise


class Tell(Deploy, frozen=True, kw_only=True):
    """A publication that must not be made twice."""

    id: ClassVar[str] = "tell"
    repeatable: ClassVar[bool] = False


class Watch(Observation[str], frozen=True, kw_only=True):
    id: ClassVar[str] = "watch"
    name: str

    async def observe(self, job: Job) -> AsyncGenerator[str, None]:
        queue = world.seen.setdefault(self.name, asyncio.Queue())
        while True:
            value = await queue.get()
            if isinstance(value, Exception):
                raise value
            yield value


class Stepper:
    """An engine with a clock that is wound by hand, on a database that outlives it."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.clock = ManualClock()
        self.connection = database.connect(folders.database)
        weakref.finalize(self, self.connection.close)
        self.engine: Engine | None = None

    @contextlib.asynccontextmanager
    async def running(
        self, *functions: Callable[[], object], confirm: Level | None = None
    ) -> AsyncIterator[Engine]:
        world.running.clear()
        engine = self.engine = Engine(self.connection, self.folders, self.clock, confirm=confirm)
        for function in functions:
            engine.add(Pipeline(function).build())
        try:
            yield engine
        finally:
            await engine.stop()

    async def quiet(self) -> None:
        """Return when nothing goes on but what waits for the test."""
        for _ in range(30):
            await asyncio.sleep(0)

    def published(self, operation: str) -> list[Outcome]:
        """Return what an operation has ever set."""
        names = [graph.name for graph in self.engine.graphs] if self.engine else []
        return [
            one for name in names for one in outcomes.of_pipeline(self.connection, operation, name)
        ]

    async def drawn(self) -> str:
        """Return the steps and their states, one a line."""
        await self.quiet()
        assert self.engine is not None
        return "\n".join(
            f"{term.label}: {told(term.state)}{behind(term)}"
            for graph in self.engine.graphs
            for term in graph.terms.values()
            if term.drawn
        )


def behind(term: Any) -> str:
    hidden = getattr(term, "behind", None) if isinstance(term, Step) else None
    return "" if hidden is None else f", behind it {told(hidden)}"


def told(state: Any) -> str:
    match state:
        case Ok(value):
            return f"ok {value}"
        case Running(what):
            return f"running {what}"
        case Waiting():
            return "waiting"
        case Failed(error):
            return f"failed {error}"
        case Blocked(on):
            return f"blocked on {on.label}"
    raise AssertionError(state)
