"""``mizzen bench rollout``: what rollouts lose under load, and what a published port costs.

Load is wrk's, from another network namespace; servers are nginx in namespaces with links of the
daemon's, so that no emulated CPU is measured. What is compared is measured in turns.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mizzen import __version__
from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.paths import Folders
from mizzen.host.process import which
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

from . import debian, place
from .comparing import (
    BARE,
    DIRECT,
    DOCKER,
    HAPROXY,
    KAMAL,
    PUBLISHED,
    Programs,
    kamal,
    measure,
    ways,
)
from .figures import Figure, Goal, Host, Result, figure
from .killing import DELAY, Killing, Survived
from .rolling import Lost, Rolling
from .scaling import Much, Scaled, scale
from .wrk import Answered, Wrk, write_script

NONE = Goal("median", 0)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    rollouts: in a row. drain: seconds. connections: of each wrk. rounds, seconds: of each way to
    the server. kills: of the daemon; seed: what their instants are drawn from. publications,
    addresses: that a daemon keeps; starts, changes: of that one.
    """

    rollouts: int = 20
    drain: float = 2.0
    connections: int = 4
    rounds: int = 8
    seconds: int = 2
    kills: int = 200
    seed: int = 0
    publications: int = 10_000
    addresses: int = 100_000
    starts: int = 5
    changes: int = 200


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. folder: temporary. wrk: unpacked."""

    extent: Extent
    programs: Programs
    wrk: Path
    folder: Path
    report: Report

    def task(self, text: str, total: int) -> Callable[[int], None]:
        """Return what is told how much of a task is done; at the total it is over."""
        return lambda done: self.report(Progress(text, done, total, finished=done == total))


async def prepare(folders: Folders, folder: Path, report: Report, extent: Extent) -> Bench:
    """Fetch programs, the first time.

    Raises Failure if this is not root, a program is missing, or Debian's mirror is out of reach.
    """
    if os.geteuid() != 0:
        raise Failure("cannot run the benchmark", "its networks need root", "run it with sudo")
    for program in ("ip", "nft", "nsenter", "setpriv"):
        which(program)
    nginx, haproxy, docker, wrk = [
        await debian.unpacked(folders, report, package)
        for package in ("nginx", "haproxy", "docker.io", "wrk")
    ]
    return Bench(extent, Programs(nginx, haproxy, docker, kamal()), wrk, folder, report)


async def run(bench: Bench) -> Result:
    """Measure everything. Raises Failure if something does not start, or does not answer."""
    load = os.getloadavg()[0]
    with place.namespace() as client:
        with client.entered():
            place.sysctl(place.CLIENT_SYSCTLS)
        figures = [
            *await _compared(bench, client),
            *await _rolled(bench, client),
            *await _killed(bench, client),
            *await _scaled(bench, client),
        ]
    host = Host(os.cpu_count() or 1, None, platform.release(), load)
    return Result("rollout", __version__, host, tuple(figures))


@contextlib.asynccontextmanager
async def _host(
    bench: Bench, client: NetworkNamespace, name: str
) -> AsyncIterator[tuple[NetworkNamespace, place.Daemon]]:
    """Yield a new host with a daemon, beside the client; this thread is on it meanwhile."""
    with place.namespace() as host:
        await place.join(client, host, 0)
        try:
            with host.entered():
                async with place.daemon(bench.folder / name) as daemon:
                    yield host, daemon
        finally:
            await place.ip(client, "link del eth0")


def _wrk(bench: Bench, client: NetworkNamespace, delay: int = 0) -> Wrk:
    return Wrk(bench.wrk, write_script(bench.folder, delay), client, bench.extent.connections)


async def _compared(bench: Bench, client: NetworkNamespace) -> list[Figure]:
    extent, wrk = bench.extent, _wrk(bench, client)
    found: list[Figure] = []
    async with (
        _host(bench, client, "compared") as (_, daemon),
        ways(bench.programs, bench.folder / "ways", daemon.network, client) as urls,
    ):
        for what, short in (("short connections", True), ("kept-alive connections", False)):
            told = bench.task(f"comparing ways to a server, {what}", extent.rounds)
            answers = await measure(
                wrk, urls, extent.rounds, extent.seconds, short=short, told=told
            )
            found += _beside(what, answers)
    return found


def _beside(what: str, answers: dict[str, list[Answered]]) -> list[Figure]:
    """Return throughput and latency of the published port beside each other way."""
    goals = {
        DIRECT: (Goal("ratio", 0.95, least=True), Goal("ratio", 1.05)),
        DOCKER: (Goal("ratio", 2, least=True), Goal("ratio", 0.5)),
        KAMAL: (Goal("ratio", 2, least=True), Goal("ratio", 0.5)),
    }
    ours = answers[PUBLISHED]
    found = []
    for name in (DIRECT, BARE, DOCKER, KAMAL, HAPROXY):
        if name not in answers:
            continue
        theirs = answers[name]
        rates = (name, [one.rate for one in theirs])
        p99s = (name, [one.p99 / 1e3 for one in theirs])
        rate, p99 = goals.get(name, (None, None))
        found += [
            figure(
                f"requests a second, {what}", "1/s", [one.rate for one in ours],
                *([rate] if rate else []), peer=rates,
            ),
            figure(
                f"99th percentile, {what}", "ms", [one.p99 / 1e3 for one in ours],
                *([p99] if p99 else []), peer=p99s,
            ),
        ]  # fmt: skip
    return found


async def _rolled(bench: Bench, client: NetworkNamespace) -> list[Figure]:
    extent = bench.extent
    task = bench.task("rolling out under load", extent.rollouts)
    async with _host(bench, client, "rolled") as (_, daemon):
        rolling = Rolling(
            bench.programs.nginx, bench.folder, client, _wrk(bench, client), extent.drain
        )
        lost = await rolling.successes(daemon.socket, extent.rollouts, task)
        last = bench.task("rolling out what never gets ready", 1)
        last(0)
        failed = await rolling.failure(daemon.socket)
        last(1)
    return [*_of_rollouts(lost), *_of_failure(failed)]


def _of_rollouts(lost: Lost) -> list[Figure]:
    services = [report.services[0] for report in lost.reports]
    what = f"in {len(services)} rollouts"
    return [
        _count(f"requests answered {what}", [lost.requests], Goal("median", 100_000, least=True)),
        _count(f"requests failed {what}", [lost.failed], NONE),
        _count("websockets ended before their deadline", [lost.sockets.early], NONE),
        _count("kept-alive connections that were reset", [lost.kept.failed], NONE),
        _count(
            "UDP packets answered by the old release after the switch", lost.late, Goal("p99", 1)
        ),
        _count(f"UDP packets without an answer {what}", [lost.packets.lost]),
        figure("switch, until it was acknowledged, under load", "ms", lost.switches),
        figure(
            "switch, the whole step, under load", "ms", [s.steps.switch * 1e3 for s in services]
        ),
        figure("start of a release, under load", "s", [s.steps.start for s in services]),
        figure("drain", "s", [s.steps.drain for s in services]),
        _count("connections in flight at a switch", [s.in_flight for s in services]),
        _count("connections that ended by themselves", [s.drained for s in services]),
    ]


def _of_failure(lost: Lost) -> list[Figure]:
    what = "while a release failed its probe"
    return [
        _count(f"requests failed {what}", [lost.failed], NONE),
        _count(f"requests answered {what}", [lost.requests]),
        _count(f"websockets ended {what}", [lost.sockets.early], NONE),
    ]


async def _killed(bench: Bench, client: NetworkNamespace) -> list[Figure]:
    extent = bench.extent
    task = bench.task(f"killing the daemon, seed {extent.seed}", extent.kills)
    task(0)
    async with _host(bench, client, "killed") as (host, daemon):
        wrk = _wrk(bench, client, DELAY)
        killing = Killing(bench.programs.nginx, bench.folder, host, wrk, daemon, extent.seed)
        return _of_kills(await killing.run(extent.kills, task))


def _of_kills(found: Survived) -> list[Figure]:
    discord, what = found.discord, f"{found.kills} kills of the daemon"
    return [
        _count(f"addresses lost, {what}", [discord.lost], NONE),
        _count(f"addresses doubled, {what}", [discord.doubled], NONE),
        _count(f"publications lost or wrong, {what}", [discord.publications], NONE),
        _count(f"stale rules and interfaces, {what}", [discord.stale], NONE),
        _count(f"missing rules and interfaces, {what}", [discord.missing], NONE),
        _count(f"requests failed, {what}", [found.failed], NONE),
        _count(f"requests answered, {what}", [sum(load.requests for load in found.loads)]),
        _count(f"rollouts failed, {what}", [len(found.failures)], NONE),
        _count(f"rollouts done, {what}", [found.rollouts], Goal("median", 1, least=True)),
    ]


async def _scaled(bench: Bench, client: NetworkNamespace) -> list[Figure]:
    extent = bench.extent
    much = Much(extent.publications, extent.addresses, extent.starts, extent.changes)
    async with _host(bench, client, "scaled") as (host, daemon):
        found = await scale(daemon, host, much, lambda text: bench.report(Progress(text)))
    return _of_scale(found, f"{extent.publications} publications, {extent.addresses} addresses")


def _of_scale(found: Scaled, what: str) -> list[Figure]:
    differing = found.discord
    return [
        figure(f"start-up of the daemon, {what}", "s", found.starts, Goal("p99", 5)),
        figure(f"change of a publication, {what}", "ms", found.changes, Goal("p99", 20)),
        figure(f"request of an address, {what}", "ms", found.requests, Goal("p99", 20)),
        _count(
            f"what differs between daemon and kernel, {what}",
            [differing.lost + differing.publications + differing.stale + differing.missing],
            NONE,
        ),
    ]


def _count(what: str, values: Sequence[int], *goals: Goal) -> Figure:
    return figure(what, "", values, *goals)
