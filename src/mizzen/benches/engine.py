"""``mizzen bench engine``: what a change costs in a large graph, and what kills do to a pipeline.

Changes are measured beside Hamilton and Dagster.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import random
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mizzen import __version__
from mizzen.engine.clock import HostClock
from mizzen.engine.engine import Engine
from mizzen.host.paths import Folders
from mizzen.model.progress import Progress, Report
from mizzen.store import database

from .figures import Figure, Goal, Host, Result, figure
from .graphs import Chains, Peer, installed, peer
from .interrupted import Endured, check, endure

HAMILTON, DAGSTER = "sf-hamilton==1.90.0", "dagster==1.13.29"

LESS = Goal("ratio", 0.05)
"""At least 20 times less."""

NONE = Goal("median", 0)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    steps, depth: of the graph that is changed, and of each of its chains. large: steps of the
    graph that is built. changes: of one input each; slow: of these, for peers that take long.
    jobs: changes where steps are jobs, in a graph of as many chains. kills: of ``mizzen up``.
    seed: of what is drawn.
    """

    steps: int = 10_000
    depth: int = 20
    large: int = 100_000
    changes: int = 200
    slow: int = 10
    jobs: int = 20
    kills: int = 200
    seed: int = 0


class _Rival(NamedTuple):
    """What is compared with. slow: whether it takes so long that a few changes must do."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    slow: bool = False
    goals: tuple[Goal, ...] = (LESS,)


async def run(folders: Folders, folder: Path, report: Report, extent: Extent) -> Result:
    """Measure everything. folder: temporary.

    Raises Failure if this is not root, a program is missing, or PyPI cannot be reached.
    """
    check()
    load = os.getloadavg()[0]
    task = Progress(f"Installing {HAMILTON} and {DAGSTER}")
    report(task)
    python = await installed(folders.cache / "bench-peers", (HAMILTON, DAGSTER))
    report(Progress(task.task, finished=True))
    figures = [
        *_changed(python, report, extent),
        *_built(extent),
        *await _jobs(folder / "jobs", report, extent),
        *await _killed(folders, folder / "killed", report, extent),
    ]
    host = Host(os.cpu_count() or 1, None, platform.release(), load)
    return Result("engine", __version__, host, tuple(figures))


def _changed(python: Path, report: Report, extent: Extent) -> list[Figure]:
    count = extent.steps // extent.depth
    shape = [str(count), str(extent.depth)]
    what = f"one input of {extent.steps:,} steps changes, {extent.depth} follow from it"
    hamilton, dagster = f"Hamilton {HAMILTON[13:]}", f"Dagster {DAGSTER[9:]} in process"
    rivals = [
        _Rival(f"{hamilton}, whole graph", "hamilton_chains.py", ("all",), slow=True),
        # It does not know by itself what a change concerns; so this has no goal.
        _Rival(f"{hamilton}, told which", "hamilton_chains.py", ("one",), goals=()),
        _Rival(f"{dagster}, told which", "dagster_chains.py", slow=True),
    ]
    chains = Chains(count, extent.depth)
    chains.graph.settle()
    figures = []
    for rival in rivals:
        task = Progress(f"Changing inputs beside {rival.name}")
        report(task)
        arguments = (*shape, *rival.arguments)
        with peer(python, rival.script, rival.name, arguments, extent.depth) as other:
            times = extent.slow if rival.slow else extent.changes
            values, others = _pairs(chains, other, times, random.Random(extent.seed))
        report(Progress(task.task, finished=True))
        goals = (Goal("median", 2), *rival.goals)
        figures.append(figure(what, "ms", values, *goals, peer=(rival.name, others)))
    return figures


def _pairs(
    chains: Chains, other: Peer, times: int, draw: random.Random
) -> tuple[list[float], list[float]]:
    """Return the milliseconds of changes, of ours and of the peer's right after each."""
    values, others = [], []
    chains.change(0, 1)
    other.change(0, 1)  # what is done once is not counted
    for number in range(times):
        chain = draw.randrange(len(chains.inputs))
        values.append(chains.change(chain, 1000 + number) * 1e3)
        others.append(other.change(chain, 1000 + number) * 1e3)
    return values, others


def _built(extent: Extent) -> list[Figure]:
    """Measure a large graph in a process of its own, whose memory is that graph's."""
    context = multiprocessing.get_context("spawn")
    seconds, memory = [], []
    for _ in range(3):
        with context.Pool(1) as pool:
            took, mib = pool.apply(_build, (extent.large // extent.depth, extent.depth))
        seconds.append(took)
        memory.append(mib)
    what = f"graph of {extent.large:,} steps"
    return [
        figure(f"{what}: built and computed", "s", seconds, Goal("median", 5)),
        figure(f"{what}: memory of the process", "MiB", memory, Goal("median", 1024)),
    ]


def _build(chains: int, depth: int) -> tuple[float, float]:
    began = time.perf_counter()
    Chains(chains, depth).graph.settle()
    took = time.perf_counter() - began
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _jobs(folder: Path, report: Report, extent: Extent) -> list[Figure]:
    """Measure steps that are jobs: done the first time, then remembered."""
    task = Progress("Changing inputs of steps that are jobs")
    report(task)
    folders = Folders(folder / "state", folder / "runtime")
    chains = Chains(1, extent.depth, jobs=True)
    done: list[float] = []
    known: list[float] = []
    with contextlib.closing(database.connect(folders.database)) as connection:
        engine = Engine(connection, folders, HostClock())
        engine.add(chains.graph)
        try:
            for found in (done, known):
                for number in range(extent.jobs):
                    took = await chains.change_jobs(engine, 0, 1000 * number)
                    found.append(took * 1e3)
        finally:
            await engine.stop()
    report(Progress(task.task, finished=True))
    what = f"one input changes, {extent.depth - 1} jobs follow from it"
    return [
        figure(f"{what}: each done, logged and remembered", "ms", done),
        figure(f"{what}: each remembered", "ms", known),
    ]


async def _killed(folders: Folders, folder: Path, report: Report, extent: Extent) -> list[Figure]:
    """Measure what a pipeline's process loses that is killed all the time."""
    text = "killing mizzen up while it builds and deploys"

    def told(done: int) -> None:
        report(Progress(text, done, extent.kills, finished=done == extent.kills))

    found = await endure(folders, folder, report, count=extent.kills, seed=extent.seed, told=told)
    return _of_kills(found)


def _of_kills(found: Endured) -> list[Figure]:
    what = f"{found.kills} kills of mizzen up"
    none = {
        "requests failed": len(found.visits.failures),
        "newest commits that did not go live in the end": len(found.stuck),
        "live machines that ended, or were started again": found.broken,
        "jobs done again that had succeeded": len(found.again),
        "messages sent twice": found.messages.twice,
        "messages lost": found.messages.lost,
        "things left over": len(found.left),
        "jobs that a new version did again and need not": len(found.besides),
    }
    told = {
        "requests answered": found.visits.answered,
        "commits made": found.commits,
        "commits that went live": found.live,
        "messages left out, as sending was killed": found.messages.cut,
        "messages left out, as the next commit came before": found.messages.passed,
        "jobs that a new version had to do again": found.anew,
    }
    return [
        *(figure(f"{name}, {what}", "", [value], NONE) for name, value in none.items()),
        *(figure(f"{name}, {what}", "", [value]) for name, value in told.items()),
        *(figure(f"kills during {one}", "", [n]) for one, n in sorted(found.during.items())),
        figure(f"restart until the pipeline goes on, {what}", "s", found.restarts),
        figure("takeover by a new version until all is as it was", "s", [found.takeover]),
    ]
