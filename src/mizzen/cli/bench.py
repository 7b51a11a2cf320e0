"""``mizzen bench``: what Mizzen costs and how fast it is, on this host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.benches import attach as bench_attach
from mizzen.benches import engine as bench_engine
from mizzen.benches import rollout as bench_rollout
from mizzen.benches.figures import Figure, Result, missed_first
from mizzen.host.paths import folders
from mizzen.model.progress import Report

from . import output

app = App(name="bench", help="Measure what Mizzen costs and how fast it is, on this host.")

MARKS = {True: Text("✓", "green"), False: Text("✗", "bold red"), None: Text("")}


@app.command
def attach(*, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Measure sessions beside ssh into the same guest, in some 6 minutes.

    A guest with a network of its own is started for it, with the ssh server dropbear of Debian's
    packages; both are gone afterwards. It needs root. It exits with 0 whether goals are met or not.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    with output.progress() as report, bench_attach.workplace() as place:
        bench = asyncio.run(bench_attach.prepare(folders(), place, report, bench_attach.Extent()))
        result = bench_attach.run(bench)
    if json:
        output.as_json(result)
    else:
        _show(result)


@app.command
def rollout(*, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Measure what rollouts lose under load, and a published port beside proxies: some 8 minutes.

    Client, host and servers are network namespaces, and nginx, wrk, HAProxy and docker-proxy are of
    Debian's packages, unpacked; nothing is installed, and all is gone afterwards. It needs root.
    It exits with 0 whether goals are met or not.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    with output.progress() as report, bench_attach.workplace() as place:
        result = asyncio.run(_rollout(place, report))
    if json:
        output.as_json(result)
    else:
        _show(result)


async def _rollout(place: Path, report: Report) -> Result:
    extent = bench_rollout.Extent()
    return await bench_rollout.run(await bench_rollout.prepare(folders(), place, report, extent))


@app.command
def engine(*, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Measure what a change costs in a large pipeline, and what kills do to one: some 13 minutes.

    Hamilton and Dagster, which do the same changes, are installed from PyPI the first time, into a
    Python of their own below the state folder. Then mizzen up is killed 200 times while it builds
    and deploys unikernels, in a network of its own, for which it needs root and a checkout. It
    exits with 0 whether goals are met or not.

    Parameters
    ----------
    json
        Print one JSON object instead of a table.
    """
    with output.progress() as report, bench_attach.workplace() as place:
        result = asyncio.run(bench_engine.run(folders(), place, report, bench_engine.Extent()))
    if json:
        output.as_json(result)
    else:
        _show(result)


def _show(result: Result) -> None:
    output.table(
        ["", "FIGURE", "UNIT", "N", "MEDIAN", "P99", "PEER", "MEDIAN", "RATIO", "GOAL"],
        [[MARKS[one.met], *_cells(one)] for one in missed_first(result.figures)],
        empty="Nothing was measured.",
    )
    host = result.host
    kernel = f"guest Linux {host.kernel}, {host.accel}" if host.accel else f"Linux {host.kernel}"
    output.console.print(
        f"\nMizzen {result.version}; {kernel}; {host.cpus} CPUs, load {host.load:.1f} before",
        soft_wrap=True,
    )


def _cells(one: Figure) -> list[str | Text]:
    peer, median, ratio = "", "", ""
    if one.peer is not None:
        peer, median = one.peer.name, _number(one.peer.median)
    if one.ratio is not None:
        ratio = f"{one.ratio:.3g}"
    numbers = [str(one.n), _number(one.median), _number(one.p99)]
    return [
        one.what,
        one.unit,
        *(Text(number, justify="right") for number in numbers),
        peer,
        *(Text(number, justify="right") for number in (median, ratio)),
        one.goal,
    ]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
