"""Graphs that benchmarks change: chains of steps, in Mizzen and in others."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mizzen.engine.engine import Engine
from mizzen.engine.graph import Graph
from mizzen.engine.job import Job
from mizzen.engine.operation import Build
from mizzen.engine.states import Ok, State
from mizzen.engine.step import step
from mizzen.engine.terms import Term
from mizzen.host.process import child, run
from mizzen.model.errors import Failure

from . import peers

PATIENCE = 300
"""Seconds that a peer may take for one answer."""


class Cell(Term[int]):
    """An input that the benchmark sets."""

    __slots__ = ("_value",)

    def __init__(self, graph: Graph, value: int) -> None:
        self._value: State[int] = Ok(value)
        super().__init__(graph, (), "input")

    def compute(self) -> State[int]:
        """Return what was set last."""
        return self._value

    def set(self, value: int) -> None:
        """Have another value, once the graph is settled."""
        self._value = Ok(value)
        self.graph.mark(self)


class Increase(Build[int], frozen=True, kw_only=True):
    """A step that is a job: its result is remembered."""

    id: ClassVar[str] = "bench increase"
    value: int

    async def run(self, job: Job) -> int:  # noqa: ARG002 - the shape of a build
        """Return the next number."""
        return self.value + 1


class Chains:
    """Chains of steps, each an input and functions that follow from each other."""

    def __init__(self, chains: int, depth: int, *, jobs: bool = False) -> None:
        self.graph = Graph("chains")
        self.inputs: list[Cell] = []
        self.ends: list[Term[int]] = []
        with self.graph.building():
            for _ in range(chains):
                term: Term[int] = Cell(self.graph, 0)
                assert isinstance(term, Cell)
                self.inputs.append(term)
                for _ in range(depth - 1):
                    term = step(Increase, value=term) if jobs else term.map(_increase, "increase")
                self.ends.append(term)

    def change(self, chain: int, value: int) -> float:
        """Change a chain's input, and return the seconds until its end is up to date."""
        began = time.perf_counter()
        self.inputs[chain].set(value)
        self.graph.settle()
        took = time.perf_counter() - began
        _check(self.ends[chain].state, value + self._depth(chain))
        return took

    async def change_jobs(self, engine: Engine, chain: int, value: int) -> float:
        """Do as ``change`` where steps are jobs."""
        end = self.ends[chain]
        wanted = value + self._depth(chain)
        began = time.perf_counter()
        self.inputs[chain].set(value)
        await engine.until(lambda: isinstance(end.state, Ok) and end.state.value == wanted)
        return time.perf_counter() - began

    def _depth(self, chain: int) -> int:
        return self.ends[chain].height


def _increase(value: int) -> int:
    return value + 1


def _check(state: State[Any], wanted: int) -> None:
    if not (isinstance(state, Ok) and state.value == wanted):
        raise Failure("cannot measure the engine", f"{state} is not {wanted}", "report this")


class Peer:
    """The same chains in a program of somebody else's."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], depth: int) -> None:
        self._name = name
        self._process = process
        self._depth = depth
        self._read()

    def change(self, chain: int, value: int) -> float:
        """Change a chain's input, and return the seconds until its end is up to date."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{chain} {value}\n".encode())
        took, found = self._read().split()
        _check(Ok(int(found)), value + self._depth - 1)
        return float(took)

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            ready = select.select([self._process.stdout], [], [], PATIENCE)[0]
            more = os.read(self._process.stdout.fileno(), 4096) if ready else b""
            if not more:
                raise Failure(f"cannot measure {self._name}", "it ended, or was silent")
            line += more
        return line.decode()


@contextlib.contextmanager
def peer(
    python: Path, script: str, name: str, arguments: Sequence[str], depth: int
) -> Iterator[Peer]:
    """Run a peer's script while the block lasts. python: that has the peer's packages."""
    path = Path(peers.__file__).parent / script
    with child(
        [str(python), str(path), *arguments],
        what=f"cannot run {name}",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield Peer(name, process, depth)


async def installed(folder: Path, packages: Sequence[str]) -> Path:
    """Return a Python that has packages from PyPI, installed into a folder the first time."""
    python = folder / "bin/python"
    done = folder / "installed"
    if not done.is_file() or done.read_text() != "\n".join(packages):
        what = "cannot install what is compared with"
        await run(sys.executable, "-m", "venv", "--clear", folder, what=what)
        await run(python, "-m", "pip", "install", "--quiet", *packages, what=what)
        done.write_text("\n".join(packages))
    return python
