"""``mizzen up``, killed at random instants while it builds and deploys, and what came of it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.builders.kernel import debian_kernel
from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.paths import Folders
from mizzen.host.process import which
from mizzen.model.errors import Failure
from mizzen.model.progress import Report

from . import place, remains, website
from .flows import beside
from .keeping import Kept, kept, newer
from .website import Visits

WHAT = "cannot measure pipelines that are killed"
BLOCK = 20
"""Kills after which one is left alone until all is as it should be."""

SPAN = 4.5
"""Seconds after it was started, until which it is killed: a bit more than a version takes."""

PATIENCE = 60.0
"""Seconds until all must be as it should be, from a start that nobody interrupts."""

AIMED = 0.5
"""Share of kills that come soon after a step has begun which is drawn, too, if it does so."""

AIMS = (
    "docker build", "docker file", "unikernel", "network address", "machines deploy",
    f"publish {website.NAME}", "notify webhook", "publish collect",
)  # fmt: skip
"""How the labels of such steps begin. The others look at the world."""

SOON = 0.3
"""Seconds after that, until which it is killed."""

OFTEN, EARLY = 0.7, 0.15
"""Shares of lives that see another commit: where the one before is live, and where it is not."""

TWICE = 0.2
"""Share of commits that another one follows at once."""

AWAY = 0.3
"""Share of commits that are made while nobody looks."""


@dataclass(slots=True)
class Endured:
    """What came of the kills.

    restarts: seconds until the pipeline went on. commits: that were made; live: that went live.
    stuck: how steps were when the newest did not go live in the end. broken: see ``Continuity``.
    during: operations that were under way at kills. again: jobs that were done twice. left: what
    nobody needs. messages: what became of those that commits which were live were to send.
    takeover: seconds until a new version had all as it should be; anew: what that did again of
    what was to be done, and besides: of other things.
    """

    kills: int = 0
    commits: int = 0
    live: int = 0
    broken: int = 0
    takeover: float = 0.0
    anew: int = 0
    during: Counter[str] = field(default_factory=Counter)
    messages: remains.Messages = field(default_factory=remains.Messages)
    restarts: list[float] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    besides: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    visits: Visits = field(default_factory=Visits)


def check() -> None:
    """Raise Failure if this is not root, or a program is missing."""
    if os.geteuid() != 0:
        raise Failure(WHAT, "its network needs root", "run it with sudo")
    for program in ("ip", "nft", "nsenter", "git", "buildah", "make", "gcc", "qemu-system-x86_64"):
        which(program)


async def endure(
    folders: Folders,
    folder: Path,
    report: Report,
    *,
    count: int,
    seed: int,
    told: Callable[[int], None],
) -> Endured:
    """Kill a pipeline's process so many times, in a network of its own.

    folders: have the kernel for images, which is fetched the first time. folder: is not there
    yet, and is left. seed: what instants are drawn from. told: called with how often it was killed.
    Raises Failure if this is not root, or a program is missing.
    """
    check()
    await debian_kernel(folders, report)
    with place.namespace() as client, place.namespace() as host:
        await place.join(client, host, 0)
        with host.entered():
            async with (
                place.daemon(folder) as daemon,
                kept(folders, folder, host, daemon) as site,
            ):
                return await _Killing(site, client, random.Random(seed), told).run(count)


@dataclass(slots=True)
class _Killing:
    site: Kept
    client: NetworkNamespace
    chance: random.Random
    told: Callable[[int], None]
    found: Endured = field(default_factory=Endured)
    continuity: remains.Continuity = field(default_factory=remains.Continuity)

    async def run(self, count: int) -> Endured:
        site, found = self.site, self.found
        site.up.start()
        await self._settle()
        if found.stuck:
            raise Failure(WHAT, f"the first version did not go live: {found.stuck[0]}")
        visitors = [
            asyncio.create_task(website.visit(self.client, found.visits, kept=kept))
            for kept in (False, True)
        ]
        with beside(*visitors):
            await self._kill()
            package = None
            while found.kills < count:
                if package is None and found.kills + BLOCK >= count:
                    package = await self._take_over()
                await self._block(package, min(count, found.kills + BLOCK))
            await asyncio.sleep(website.PATIENCE)  # what is asked still may fail
        await asyncio.gather(*visitors, return_exceptions=True)
        await self._count()
        return found

    async def _block(self, package: Path | None, until: int) -> None:
        """Kill for a while; then let all come to be as it should."""
        while self.found.kills < until:
            self.told(self.found.kills)
            await self._live(package)
            self.found.kills += 1
        self.told(until)
        await self.site.repository.commit()
        self.site.up.start(package)
        await self._settle()
        await self._kill()

    async def _live(self, package: Path | None) -> None:
        """Let it live until a random instant."""
        site, chance = self.site, self.chance
        live = self._is_live()
        commits = chance.random() < (OFTEN if live else EARLY)
        aims = chance.random() < AIMED and (commits or not live)  # else no step would begin
        aim = chance.choice(AIMS) if aims else ""
        soon = chance.uniform(0, SOON)
        span = SPAN if aim else chance.uniform(0, SPAN)
        away = chance.random() < AWAY
        moment = chance.uniform(0, 1 if aim else span)
        number = 2 if chance.random() < TWICE else 1
        if commits and away:
            await self._commit(number)
        site.up.start(package)
        end = site.up.began + span
        if commits and not away:
            await asyncio.sleep(moment)
            await self._commit(number)
        if aim and await site.up.until(lambda: self._begins(aim), end - time.monotonic()):
            end = time.monotonic() + soon
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        await self._kill()

    def _begins(self, step: str) -> bool:
        steps = self.site.up.steps.items()
        return any(told.state == "running" for label, told in steps if label.startswith(step))

    async def _commit(self, number: int) -> None:
        for _ in range(number):
            await self.site.repository.commit()

    async def _kill(self) -> None:
        """Kill it, and look whether machines run on."""
        up = self.site.up
        await up.kill()
        if up.went_on is not None:
            self.found.restarts.append(up.went_on - up.began)
        folders = self.site.folders
        self.continuity.look(remains.live_machine(folders, website.NAME))
        self.found.during.update({job.operation for job in remains.unfinished(folders)})

    async def _settle(self) -> None:
        """Wait until all is as it should be with the newest commit."""
        up = self.site.up
        if not await up.until(self._is_settled, PATIENCE):
            self.found.stuck.append(str(up.steps))

    def _is_settled(self) -> bool:
        steps, newest = self.site.up.steps, self.site.repository.commits[-1]
        if len(steps) < website.STEPS:
            return False
        done = all(
            step.state == "ok" or (label.startswith("notify ") and step.state == "failed")
            for label, step in steps.items()
        )
        return done and any(newest in step.detail for step in steps.values())

    def _is_live(self) -> bool:
        return self.found.visits.last == self.site.repository.commits[-1]

    async def _take_over(self) -> Path:
        """Let a new version have what the one before had made."""
        site, found = self.site, self.found
        package = newer(site.folder / "newer")
        before = max(job.id for job in remains.all_jobs(site.folders))
        site.up.start(package)
        await self._settle()
        found.takeover = time.monotonic() - site.up.began
        await self._kill()
        for job in remains.all_jobs(site.folders):
            if job.id > before and job.operation == "docker file":
                found.anew += 1
            elif job.id > before and job.operation not in remains.AGAIN:
                found.besides.append(job.label)
        return package

    async def _count(self) -> None:
        """Look at what there is at the end, after an end in order of the version before."""
        site, found = self.site, self.found
        site.up.start()
        await self._settle()
        await site.up.stop()
        live = remains.live_machine(site.folders, website.NAME)
        self.continuity.look(live)
        if live is None:
            raise Failure(WHAT, "nothing is live at the end")
        name = live.spec.name
        assert site.daemon.process is not None
        known = [os.getpid(), live.pid, site.daemon.process.pid]
        found.left = [
            *await remains.in_network(site.daemon.network, site.host, name),
            *remains.in_storage(site.folders, site.temporary, name),
            *await remains.containers(site.environment),
            *remains.processes(site.host, known),
        ]
        done = remains.all_jobs(site.folders)
        found.again = [job.label for job in remains.repeated(done)]
        found.messages = remains.messages(done, site.inbox.digests(found.visits.seen))
        found.commits = len(site.repository.commits)
        found.live = len(found.visits.seen)
        found.broken = self.continuity.broken
