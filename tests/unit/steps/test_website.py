"""The website's graph as it is drawn, from before anything ran on, with a clock wound by hand."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from manual_clock import ManualClock

from mizzen.engine.drawing import dot, draw
from mizzen.engine.engine import Engine
from mizzen.engine.graph import Graph
from mizzen.engine.pipeline import load
from mizzen.engine.policy import Level
from mizzen.engine.states import Failed, Waiting
from mizzen.engine.terms import Term
from mizzen.host.paths import Folders
from mizzen.store import database

EXAMPLE = Path(__file__).parents[3] / "examples/pipelines/website"


@pytest.fixture
def website(tmp_path: Path) -> Path:
    """A copy of the example, with its repository."""
    place = tmp_path / "website"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("*.git", "__pycache__"))
    subprocess.run([place / "prepare"], check=True)
    return place


def built(website: Path) -> Graph:
    (graph,) = load(website / "pipeline.py")
    return graph


def drawn(graph: Graph, website: Path) -> str:
    """Return a graph without what is another one in each run: folders and commits."""
    text = dot(draw(graph)).replace(str(website), "WEBSITE")
    return re.sub(r"\b[0-9a-f]{12}\b", "COMMIT", text)


def stored(name: str) -> str:
    return (Path(__file__).parent / name).read_text()


def test_before_anything_ran(website: Path) -> None:
    graph = built(website)
    graph.settle()
    assert drawn(graph, website) == stored("website.dot")


def test_step_by_step(website: Path, tmp_path: Path) -> None:
    graph, clock = built(website), ManualClock()
    folders = Folders(tmp_path / "state", tmp_path / "run")
    repository, away = website / "website.git", website / "away.git"

    def called(label: str) -> Term[Any]:
        (found,) = (term for term in graph.terms.values() if term.label.startswith(label))
        return found

    async def act(engine: Engine) -> None:
        head, image = called("git head"), called("docker build")
        engine.add(graph)
        await engine.until(lambda: isinstance(image.state, Waiting))
        assert drawn(graph, website) == stored("website-waiting.dot")
        repository.rename(away)
        await engine.until(lambda: isinstance(head.behind, Failed))
        assert drawn(graph, website) == stored("website-gone.dot")
        away.rename(repository)
        assert clock.sleepers == [2.0]
        clock.pass_(2)
        await engine.until(lambda: head.behind is None)
        assert drawn(graph, website) == stored("website-waiting.dot")

    async def run() -> None:
        with contextlib.closing(database.connect(folders.database)) as connection:
            engine = Engine(connection, folders, clock, confirm=Level.LOW)
            try:
                await act(engine)
            finally:
                await engine.stop()

    asyncio.run(run())
