"""The network daemon, killed at random instants during rollouts, and what was lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.host.namespaces import NetworkNamespace
from mizzen.model.errors import Failure
from mizzen.model.network import Lease, Publication
from mizzen.model.service import Release, Service
from mizzen.network.client import Network
from mizzen.publish import rollout
from mizzen.publish.starter import Means

from .audit import Discord, discord
from .place import HOST, PAGE, Daemon
from .rolling import release, rolling, service
from .wrk import Answered, Wrk

NAMES = ("one", "two")
DRAIN = 5.0
REQUESTS = 20
"""On one connection: so that with DELAY none lasts until it is dropped."""

DELAY = 5
"""Milliseconds before each request, which leaves the daemon some CPU."""

TAGS = 50
BLOCK = 20
"""Kills after which everything is compared."""

SPREAD = 0.3
"""Seconds after it was ready again, until which the daemon is killed."""

STARTING = 0.8
"""Seconds after it was started, until which it is killed without being waited for."""

EARLY = 0.3
"""Share of kills that wait for nothing."""


class Ledger(Network):
    """A client that writes down what was acknowledged."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.leases: dict[str, str] = {}
        self.published: dict[str, Publication] = {}

    async def request_address(self, tag: str, prefix: str, exclude: Sequence[str] = ()) -> Lease:
        """Request an address."""
        lease = await super().request_address(tag, prefix, exclude)
        self.leases[tag] = lease.address
        return lease

    async def release_address(self, tag: str, prefix: str = "") -> None:
        """Release an address."""
        await super().release_address(tag, prefix)
        self.leases.pop(tag, None)

    async def publish(
        self,
        publications: Sequence[Publication],
        expect: Mapping[str, Publication | None] | None = None,
    ) -> None:
        """Set publications."""
        await super().publish(publications, expect)
        self.published.update({one.name: one for one in publications})


@dataclass(slots=True)
class Survived:
    """What a daemon's deaths have left.

    rollouts: done meanwhile. failures: why those that were not failed. requests: that were answered
    and that were not.
    """

    kills: int = 0
    rollouts: int = 0
    failures: list[str] = field(default_factory=list)
    discord: Discord = field(default_factory=Discord)
    loads: list[Answered] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests that were not answered."""
        return sum(load.failed for load in self.loads)


@dataclass(frozen=True, slots=True)
class Killing:
    """Kills under load. seed: what the instants are drawn from."""

    root: Path
    folder: Path
    host: NetworkNamespace
    wrk: Wrk
    daemon: Daemon
    seed: int

    async def run(self, count: int, told: Callable[[int], None]) -> Survived:
        """Kill the daemon so many times. told: called with how often it was killed."""
        found = Survived()
        network = Ledger(self.daemon.socket)
        chance = random.Random(self.seed)
        async with rolling(self.root, self.folder / "killing", network, REQUESTS) as (means, _):
            for number, name in enumerate(NAMES):
                await rollout.roll_out(means, [_wanted(number, name)])
            with (
                self.wrk.loading(_url(0), short=True) as short,
                self.wrk.loading(_url(1), short=False) as kept,
            ):
                while found.kills < count:
                    await self._block(
                        means, network, chance, min(count, found.kills + BLOCK), found
                    )
                    found.discord += await discord(
                        network, self.host, network.leases, network.published
                    )
                    self._again()  # what it says then is what its database holds
                    found.discord += await discord(
                        network, self.host, network.leases, network.published
                    )
                    told(found.kills)
            found.loads = [*short, *kept]
            for tag in list(network.leases):
                if tag.startswith("tag-"):
                    await network.release_address(tag)
        return found

    def _again(self) -> None:
        self.daemon.kill()
        self.daemon.start()

    async def _block(
        self, means: Means, network: Network, chance: random.Random, until: int, found: Survived
    ) -> None:
        over = asyncio.Event()
        workers = [
            asyncio.create_task(_roll(means, number, name, over, found))
            for number, name in enumerate(NAMES)
        ]
        workers.append(asyncio.create_task(_lease(network, random.Random(chance.random()), over)))
        try:
            while found.kills < until:
                if chance.random() < EARLY:
                    await asyncio.sleep(chance.uniform(0, STARTING))
                else:
                    await network.status()
                    await asyncio.sleep(chance.uniform(0, SPREAD))
                self._again()
                found.kills += 1
            over.set()
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def _roll(means: Means, number: int, name: str, over: asyncio.Event, found: Survived) -> None:
    while not over.is_set():
        try:
            await rollout.roll_out(means, [_wanted(number, name)])
        except Failure as failure:
            found.failures.append(str(failure))
        else:
            found.rollouts += 1


async def _lease(network: Network, chance: random.Random, over: asyncio.Event) -> None:
    while not over.is_set():
        tag = f"tag-{chance.randrange(TAGS)}"
        if chance.random() < 0.5:
            await network.request_address(tag, "10.80.0.0/24")
        else:
            await network.release_address(tag)


def _wanted(number: int, name: str) -> tuple[Service, Release]:
    return service(name, DRAIN, first=1000 * number), release(name)


def _url(number: int) -> str:
    return f"http://{HOST}:{PAGE + 1000 * number}/"
