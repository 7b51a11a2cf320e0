"""Rollouts in the kernel: the daemon's server and plane on a host that is a namespace.

Releases are servers in namespaces of their own, whose links the daemon makes; clients are outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from netns import Namespace
from netplane import kernel_plane
from publishing import Responder, Told, daemon

from mizzen.model.errors import Failure
from mizzen.model.network import Link, Transport
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.network.client import Network
from mizzen.publish.rollout import roll_out
from mizzen.publish.starter import Means
from mizzen.store.database import connect

HOST = ("192.0.2.1", "2001:db8::1")
OUTSIDE = ("192.0.2.2", "2001:db8::2")
PREFIXES = ("10.77.0.0/24", "fd77::/64")
ROLLOUTS = 20

UDP = ServicePort(5353, 53, Transport.UDP)
WEB = Service("web", (ServicePort(8080, 80), UDP), Probe(ProbeKind.HTTP, interval=0.01), drain=30)


class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with whose it is."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._name.encode(), addr)


@dataclass
class Machine:
    """A namespace with a link of the daemon's, a server at 80 and an echo at 53/udp."""

    namespace: Namespace
    link: Link
    server: Responder
    echo: asyncio.DatagramTransport

    async def end(self) -> None:
        await self.server.close()
        self.echo.close()
        self.namespace.close()


class NamespaceStarter:
    """Starts releases as servers in namespaces. A source is the status that they answer."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.machines: dict[str, Machine] = {}

    async def start(self, service: Service, release: Release) -> Release:
        name = release.machine
        for prefix in PREFIXES:
            await self._network.request_address(f"machine:{name}", prefix)
        namespace = Namespace()
        link, _ = await self._network.open_link(
            name, label=service.name, namespace=namespace.descriptor
        )
        namespace.ip(
            "link set eth0 up",
            f"addr add {link.addresses[0]}/32 dev eth0",
            f"addr add {link.addresses[1]}/128 dev eth0 nodad",
            f"route add default via {link.gateways[0]} dev eth0 onlink",
            f"route add default via {link.gateways[1]} dev eth0 onlink",
        )
        self.machines[name] = await self._serve(namespace, link, release)
        return replace(release, addresses=link.addresses)

    async def _serve(self, namespace: Namespace, link: Link, release: Release) -> Machine:
        loop = asyncio.get_running_loop()
        tcp = namespace.socket("::", socket.SOCK_STREAM)
        tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        tcp.bind(("::", 80))
        server = Responder(tcp, lambda: (release.source, str(release)))
        udp = namespace.socket("::", socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.bind(("::", 53))
        udp.setblocking(False)  # noqa: FBT003
        echo, _ = await loop.create_datagram_endpoint(lambda: Echo(str(release)), sock=udp)
        return Machine(namespace, link, server, echo)

    async def ended(self, release: Release) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(self, release: Release, grace: float) -> None:
        await self.machines.pop(release.machine).end()

    async def remove(self, release: Release) -> None:
        await self._network.close_link(release.machine)
        await self._network.release_address(f"machine:{release.machine}")

    def keep(self, release: Release) -> str:
        return ""


@dataclass
class Place:
    """What a test works with, on the host and outside of it."""

    means: Means
    starter: NamespaceStarter
    outside: Namespace
    told: Told

    async def dial(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the published port from outside."""
        client = self.outside.socket(address, socket.SOCK_STREAM)
        client.setblocking(False)  # noqa: FBT003
        try:
            await asyncio.get_running_loop().sock_connect(client, (address, 8080))
        except BaseException:
            client.close()
            raise
        return await asyncio.open_connection(sock=client)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bool) -> str:
    """Ask once by a connection; return who answered."""
    writer.write(b"GET / HTTP/1.1\r\n" + (b"Connection: close\r\n" if last else b"") + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = int(head.rpartition(b":")[2])
    return (await reader.readexactly(length)).decode()


Scenario = Callable[[Place], Coroutine[None, None, None]]


@pytest.fixture
def run(tmp_path: Path):
    """Run a scenario on a host with an outside."""
    with contextlib.ExitStack() as stack:
        host, outside = Namespace(), Namespace()
        stack.callback(host.close)
        stack.callback(outside.close)
        host.connect(outside, "up0", "eth0")
        host.ip(
            "link set up0 up",
            f"addr add {HOST[0]}/24 dev up0",
            f"addr add {HOST[1]}/64 dev up0 nodad",
        )
        outside.ip(
            "link set eth0 up",
            f"addr add {OUTSIDE[0]}/24 dev eth0",
            f"addr add {OUTSIDE[1]}/64 dev eth0 nodad",
        )

        def do(scenario: Scenario) -> None:
            with host.entered():
                asyncio.run(_staged(tmp_path, outside, scenario))

        yield do


async def _staged(folder: Path, outside: Namespace, scenario: Scenario) -> None:
    async with kernel_plane() as plane, daemon(folder, plane) as network:
        starter = NamespaceStarter(network)
        told = Told()
        with contextlib.closing(connect(folder / "mizzen.db")) as connection:
            try:
                await scenario(
                    Place(Means(connection, network, starter, told), starter, outside, told)
                )
            finally:
                for machine in starter.machines.values():
                    await machine.end()


def new(status: int = 200) -> Release:
    return Release("web", 0, ReleaseState.STARTING, 0.0, source=str(status))


class Load:
    """Asks from outside again and again, by new connections or by one that is kept."""

    def __init__(self, place: Place, address: str, each: int) -> None:
        self._place = place
        self._address = address
        self._each = each
        self.answers: list[str] = []
        self._answered = asyncio.Event()

    async def run(self) -> None:
        while True:
            reader, writer = await self._place.dial(self._address)
            try:
                for left in reversed(range(self._each)):
                    self.answers.append(await ask(reader, writer, not left))
                    self._answered.set()
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def more(self, count: int) -> None:
        wanted = len(self.answers) + count
        while len(self.answers) < wanted:
            self._answered.clear()
            await self._answered.wait()


@contextlib.asynccontextmanager
async def loaded(place: Place, each: int = 1) -> AsyncIterator[list[Load]]:
    loads = [Load(place, address, each) for address in HOST for _ in range(2)]
    tasks = [asyncio.create_task(load.run()) for load in loads]
    try:
        yield loads
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


def test_twenty_rollouts_fail_no_request_of_new_connections(run):
    async def scenario(place: Place) -> None:
        await roll_out(place.means, [(WEB, new())])
        async with loaded(place) as loads:
            for number in range(2, ROLLOUTS + 2):
                report = await roll_out(place.means, [(WEB, new())])
                assert report.services[0].dropped == 0
                await asyncio.gather(*(load.more(2) for load in loads))
                assert {load.answers[-1] for load in loads} == {f"web-{number}"}

    run(scenario)


def test_kept_connections_end_by_themselves_and_follow_then(run):
    async def scenario(place: Place) -> None:
        await roll_out(place.means, [(WEB, new())])
        async with loaded(place, each=50) as loads:
            for _ in range(5):
                report = await roll_out(place.means, [(WEB, new())])
                (one,) = report.services
                assert one.dropped == 0
                assert one.drained == one.in_flight
                await asyncio.gather(*(load.more(60) for load in loads))

    run(scenario)


def test_a_connection_is_kept_until_its_deadline_and_dropped_then(run):
    brief = replace(WEB, drain=0.5)

    async def scenario(place: Place) -> None:
        await roll_out(place.means, [(brief, new())])
        reader, writer = await place.dial(HOST[0])
        assert await ask(reader, writer, last=False) == "web-1"
        rolling = asyncio.create_task(roll_out(place.means, [(brief, new())]))
        await place.told.until("Draining web-1")
        assert await ask(reader, writer, last=False) == "web-1"
        (one,) = (await rolling).services
        assert (one.in_flight, one.drained, one.dropped) == (1, 0, 1)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    run(scenario)


def test_a_rollout_that_fails_fails_no_request(run):
    quick = replace(WEB, probe=Probe(ProbeKind.HTTP, interval=0.01, attempts=3))

    async def scenario(place: Place) -> None:
        await roll_out(place.means, [(quick, new())])
        async with loaded(place) as loads:
            for _ in range(3):
                with pytest.raises(Failure, match=r"answered with 503, not 200.*web-1 stays live"):
                    await roll_out(place.means, [(quick, new(503))])
                await asyncio.gather(*(load.more(2) for load in loads))
        assert {answer for load in loads for answer in load.answers} == {"web-1"}

    run(scenario)


@pytest.mark.parametrize("address", HOST)
def test_a_udp_flow_follows_with_its_next_datagram(run, address):
    async def scenario(place: Place) -> None:
        await roll_out(place.means, [(WEB, new())])
        loop = asyncio.get_running_loop()
        with place.outside.socket(address, socket.SOCK_DGRAM) as client:
            client.setblocking(False)  # noqa: FBT003
            await loop.sock_connect(client, (address, UDP.port))
            for number in range(1, 5):
                await loop.sock_sendall(client, b"?")
                assert await loop.sock_recv(client, 100) == f"web-{number}".encode()
                await roll_out(place.means, [(WEB, new())])

    run(scenario)
