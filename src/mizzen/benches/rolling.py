"""Rollouts one after the other under load, and what of the load was lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.host.namespaces import NetworkNamespace
from mizzen.model.errors import Failure
from mizzen.model.network import Publication, Transport
from mizzen.model.progress import silent
from mizzen.model.service import (
    Probe,
    ProbeKind,
    Release,
    ReleaseState,
    RolloutReport,
    Service,
    ServicePort,
)
from mizzen.network.client import Network
from mizzen.publish import rollout
from mizzen.publish.starter import Means
from mizzen.store import database

from .flows import Packets, Sockets, beside, keep_websocket, send_packets
from .place import ECHO, HOST, PAGE, WHAT, Servers
from .wrk import Answered, Wrk

NAME = "web"
REQUESTS = 1000
"""On one connection, before nginx ends it in order: its own default."""

PROBE = Probe(ProbeKind.HTTP, path="/ready", contains="ready", interval=0.05, attempts=100)


class WatchedNetwork(Network):
    """A client that remembers when switches were acknowledged, and how long each took."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.switches: list[tuple[float, float]] = []

    async def publish(
        self,
        publications: Sequence[Publication],
        expect: Mapping[str, Publication | None] | None = None,
    ) -> None:
        """Set publications, and remember."""
        begun = time.monotonic()
        await super().publish(publications, expect)
        self.switches.append((begun, time.monotonic()))


@dataclass(slots=True)
class Lost:
    """What load and flows met meanwhile. switches: milliseconds. late: packets, of each switch."""

    short: Answered
    kept: Answered
    sockets: Sockets
    packets: Packets
    switches: list[float] = field(default_factory=list)
    reports: list[RolloutReport] = field(default_factory=list)
    late: list[int] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests that were answered."""
        return self.short.requests + self.kept.requests

    @property
    def failed(self) -> int:
        """Requests that were not."""
        return self.short.failed + self.kept.failed + self.sockets.refused


def service(name: str, drain: float, probe: Probe = PROBE, first: int = 0) -> Service:
    """Return a service with a page, a websocket and an echo. first: added to each port."""
    ports = (
        ServicePort(PAGE + first, PAGE),
        ServicePort(ECHO + first, ECHO),
        ServicePort(ECHO + first, ECHO, Transport.UDP),
    )
    return Service(name, ports, probe, drain)


def release(name: str) -> Release:
    """Return a release of the service that is to be started."""
    return Release(name, 0, ReleaseState.STARTING, time.time(), source="nginx")


@contextlib.asynccontextmanager
async def rolling(
    root: Path, folder: Path, network: Network, requests: int = REQUESTS
) -> AsyncIterator[tuple[Means, Servers]]:
    """Yield what rollouts work with.

    root: nginx, unpacked. folder: for it and its database. requests: on one connection.
    """
    servers = Servers(root, folder, network, requests)
    with contextlib.closing(database.connect(folder / "mizzen.db")) as connection:
        try:
            yield Means(connection, network, servers, silent), servers
        finally:
            await network.unpublish(*[one.name async for one in network.publications()])
            await servers.close()


@dataclass(frozen=True, slots=True)
class Rolling:
    """Rollouts under load. drain: seconds; longer than nginx keeps a busy connection."""

    root: Path
    folder: Path
    client: NetworkNamespace
    wrk: Wrk
    drain: float

    async def successes(self, socket: Path, count: int, told: Callable[[int], None]) -> Lost:
        """Roll out so many times. told: called with the number of those done."""
        network = WatchedNetwork(socket)
        async with rolling(self.root, self.folder / "successes", network) as (means, servers):
            wanted = service(NAME, self.drain)
            await rollout.roll_out(means, [(wanted, release(NAME))])
            network.switches.clear()
            reports = []

            async def work() -> None:
                for number in range(count):
                    told(number)
                    reports.append(await rollout.roll_out(means, [(wanted, release(NAME))]))
                told(count)

            lost = await self._under_load(servers, work)
        lost.reports = reports
        for number, (begun, ended) in enumerate(network.switches, 1):
            lost.switches.append((ended - begun) * 1e3)
            lost.late.append(lost.packets.late(f"{NAME}-{number}", ended))
        return lost

    async def failure(self, socket: Path) -> Lost:
        """Roll out a release that never gets ready. Raises Failure if that succeeds."""
        network = WatchedNetwork(socket)
        async with rolling(self.root, self.folder / "failure", network) as (means, servers):
            await rollout.roll_out(means, [(service(NAME, 0), release(NAME))])
            probe = Probe(ProbeKind.HTTP, path="/ready", interval=0.5, attempts=6)
            servers.ready = 503

            async def work() -> None:
                try:
                    await rollout.roll_out(means, [(service(NAME, 0, probe), release(NAME))])
                except Failure:
                    return
                raise Failure(WHAT, "a release that is not ready was made live")

            return await self._under_load(servers, work)

    async def _under_load(self, servers: Servers, work: Callable[[], Awaitable[None]]) -> Lost:
        sockets, packets = Sockets(), Packets()
        address = (HOST, ECHO)
        stopped = servers.stopped.__contains__
        flows = (
            asyncio.create_task(keep_websocket(self.client, address, stopped, sockets)),
            asyncio.create_task(send_packets(self.client, address, packets)),
        )
        url = f"http://{HOST}/"
        with (
            self.wrk.loading(url, short=True) as short,
            self.wrk.loading(url, short=False) as kept,
            beside(*flows),
        ):
            await work()
        await asyncio.gather(*flows, return_exceptions=True)
        if not sockets.messages or not packets.answers:
            raise Failure(WHAT, "the websocket or the echo was never answered", "try again")
        return Lost(short[0], kept[0], sockets, packets)
