from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from mizzen.model.errors import Failure
from mizzen.model.network import Edge, Forward, Publication, Transport
from mizzen.network import datagrams, relay
from mizzen.network.plane import Parts
from mizzen.network.relay import RelayPlane
from mizzen.network.streams import Connections, End, Listener

LOOPBACK = "127.0.0.1"
PATIENCE = 20

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop; what it forgot would raise as it is collected."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(bounded())


def free_port(transport: Transport = Transport.TCP) -> int:
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def plane() -> AsyncIterator[RelayPlane]:
    made = RelayPlane()
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def server(handler: Handler, address: str = LOOPBACK) -> AsyncIterator[int]:
    """A TCP server; yields its port."""
    tasks = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    made = await asyncio.start_server(handle, address, 0)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def saying(word: bytes) -> Handler:
    """A server that answers each line with its word."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(word + b"\n")
            await writer.drain()

    return handle


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self) -> bytes:
        self.writer.write(b"who\n")
        return (await self.reader.readline()).strip()


@contextlib.asynccontextmanager
async def client(port: int, address: str = LOOPBACK) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def published(
    port: int, target_port: int, transport: Transport = Transport.TCP, address: str = LOOPBACK
) -> Parts:
    forward = Forward(address, port, transport, LOOPBACK, target_port)
    return Parts(publications=(Publication("web", (forward,)),))


def test_bytes_go_both_ways_and_the_end_of_one_is_passed_on():
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = await reader.read()  # to the client's end
        writer.write(whole.upper())
        await writer.drain()

    async def test() -> None:
        port = free_port()
        async with server(upper) as target, plane() as made:
            await made.begin(published(port, target))
            async with client(port) as asking:
                asking.writer.write(b"a" * (1 << 20))
                asking.writer.write_eof()
                assert await asking.reader.read() == b"A" * (1 << 20)

    run(test)


def test_switch_moves_new_connections_and_leaves_open_ones():
    async def test() -> None:
        port = free_port()
        async with server(saying(b"old")) as old, server(saying(b"new")) as new, plane() as made:
            await made.begin(published(port, old))
            async with client(port) as before:
                assert await before.ask() == b"old"
                await made.change(published(port, old), published(port, new))
                async with client(port) as after:
                    assert await after.ask() == b"new"
                assert await before.ask() == b"old"

    run(test)


def test_no_request_is_lost_while_targets_are_switched():
    async def test() -> None:
        port = free_port()
        answers = []

        async with server(saying(b"old")) as old, server(saying(b"new")) as new, plane() as made:
            targets = [old, new]

            async def load(*, switching: bool) -> None:
                for _ in range(50):
                    async with client(port) as asking:
                        answers.append(await asking.ask())
                    if switching:
                        targets.reverse()
                        await made.change(published(port, targets[1]), published(port, targets[0]))

            await made.begin(published(port, old))
            await asyncio.gather(*(load(switching=number == 0) for number in range(4)))
        assert len(answers) == 200
        assert set(answers) == {b"old", b"new"}

    run(test)


def test_sender_waits_for_a_reader_that_does_not_read(monkeypatch):
    go, held = asyncio.Event(), asyncio.Event()
    size = 64 << 20
    pause = End.pause_writing

    def pause_writing(self: End) -> None:
        pause(self)
        assert self._peer is not None
        if not self._peer.transport.is_reading():
            held.set()

    monkeypatch.setattr(End, "pause_writing", pause_writing)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        got = 0
        while data := await reader.read(1 << 20):
            got += len(data)
        writer.write(b"%d" % got)
        await writer.drain()

    async def test() -> None:
        port = free_port()
        async with server(slow) as target, plane() as made:
            await made.begin(published(port, target))
            loop = asyncio.get_running_loop()
            with socket.create_connection((LOOPBACK, port)) as sender:
                sender.settimeout(0)
                sending = asyncio.create_task(loop.sock_sendall(sender, bytes(size)))
                await held.wait()
                assert not sending.done()
                go.set()
                await sending
                sender.shutdown(socket.SHUT_WR)
                assert await loop.sock_recv(sender, 100) == b"%d" % size

    run(test)


def test_client_of_a_target_that_refuses_is_reset():
    async def test() -> None:
        port = free_port()
        async with plane() as made:
            await made.begin(published(port, free_port()))
            async with client(port) as asking:
                with pytest.raises(ConnectionResetError):
                    await asking.reader.read()

    run(test)


def test_reset_by_the_target_is_passed_on():
    async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        writer.transport.abort()

    async def test() -> None:
        port = free_port()
        async with server(resetting) as target, plane() as made:
            await made.begin(published(port, target))
            async with client(port) as asking:
                asking.writer.write(b"who\n")
                with pytest.raises(ConnectionResetError):
                    await asking.reader.read()

    run(test)


def test_change_that_cannot_be_made_changes_nothing():
    async def test() -> None:
        first, second = free_port(), free_port()
        async with server(saying(b"old")) as old, server(saying(b"new")) as new, plane() as made:
            await made.begin(published(first, old))
            with socket.socket() as other:
                other.bind((LOOPBACK, 0))
                other.listen()
                taken = other.getsockname()[1]
                after = Publication(
                    "web",
                    tuple(
                        Forward(LOOPBACK, port, Transport.TCP, LOOPBACK, new)
                        for port in (first, second, taken)
                    ),
                )
                wanted = after.forwards[2]
                assert "(uid " in await made.holder(wanted)
                wild = replace(wanted, address="")
                assert "(uid " in await made.holder(wild), "one address of all is enough"
                assert await made.holder(after.forwards[1]) == ""
                with pytest.raises(
                    Failure, match=rf"publish port {LOOPBACK}:{taken}/tcp: another process listens"
                ):
                    await made.change(published(first, old), Parts(publications=(after,)))
            async with client(first) as asking:
                assert await asking.ask() == b"old"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, second)

    run(test)


def test_port_that_cannot_be_had_at_the_start_holds_up_no_other(caplog):
    async def test() -> None:
        port = free_port()
        async with server(saying(b"old")) as old, server(saying(b"new")) as new, plane() as made:
            with socket.socket() as other:
                other.bind((LOOPBACK, 0))
                other.listen()
                taken = published(other.getsockname()[1], old).publications[0].forwards
                lost = Publication("lost", taken)
                web = published(port, old).publications[0]
                await made.begin(Parts(publications=(lost, web)))
                assert "another process listens there" in caplog.text
                await made.change(published(port, old), published(port, new))
                async with client(port) as asking:
                    assert await asking.ask() == b"new"

    run(test)


def test_port_of_root_is_refused_with_the_setting_that_opens_it(monkeypatch):
    def refuse(place: relay.Place) -> socket.socket:
        raise PermissionError(errno.EACCES, "no")

    async def test() -> None:
        async with plane() as made:
            with pytest.raises(Failure, match=r"sysctl net\.ipv4\.ip_unprivileged_port_start=80$"):
                await made.change(Parts(), published(80, 8080))

    monkeypatch.setattr(relay, "_bound", refuse)
    run(test)


def test_links_and_edges_are_refused():
    async def test() -> None:
        async with plane() as made:
            edges = Parts(edges=(Edge("a", "b", Transport.TCP, 80),))
            with pytest.raises(Failure, match="runs without root"):
                await made.change(Parts(), edges)

    run(test)


def test_any_address_means_both_families_unless_each_has_a_target():
    async def test() -> None:
        port = free_port()
        async with (
            server(saying(b"four")) as four,
            server(saying(b"six"), "::1") as six,
            plane() as made,
        ):
            only4 = published(port, four, address="")
            forward6 = Forward("", port, Transport.TCP, "::1", six)
            both = Parts(
                publications=(Publication("web", (*only4.publications[0].forwards, forward6)),)
            )
            await made.begin(only4)
            for address in (LOOPBACK, "::1"):
                async with client(port, address) as asking:
                    assert await asking.ask() == b"four"
            await made.change(only4, both)
            for address, answer in ((LOOPBACK, b"four"), ("::1", b"six")):
                async with client(port, address) as asking:
                    assert await asking.ask() == answer
            await made.change(both, Parts())
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("::1", port)

    run(test)


def test_connections_beyond_the_limit_wait_for_room():
    async def test() -> None:
        async with server(saying(b"here")) as target:
            connections = Connections(1)
            with socket.socket() as listening:
                listening.bind((LOOPBACK, 0))
                listening.listen()
                listening.settimeout(0)
                port = listening.getsockname()[1]
                listener = Listener(listening, (LOOPBACK, target), connections)
                async with client(port) as first, client(port) as second:
                    assert await first.ask() == b"here"
                    asking = asyncio.create_task(second.ask())
                    assert await first.ask() == b"here"
                    assert connections.count((LOOPBACK,)) == 1
                    first.writer.close()
                    assert await asking == b"here"
                listener.close()
                await connections.close()

    run(test)


def test_drain_counts_the_open_ones_of_its_targets_until_none_is():
    async def test() -> None:
        port, other = free_port(), free_port()
        async with server(saying(b"old")) as old, server(saying(b"new")) as new, plane() as made:
            await made.begin(
                Parts(
                    publications=(
                        *published(port, old).publications,
                        *published(other, new).publications,
                    )
                )
            )
            async with client(port) as first, client(port) as second, client(other) as third:
                for one in (first, second, third):
                    await one.ask()
                draining = made.drain((f"{LOOPBACK}:{old}",), 60)
                seen = await anext(draining)
                assert (seen.open, seen.done) == (2, False)
                first.writer.close()
                seen = await anext(draining)
                assert (seen.open, seen.done) == (1, False)
                last = [seen async for seen in made.drain((LOOPBACK,), 0)]
                assert [(seen.open, seen.done) for seen in last] == [(2, True)]
                second.writer.close()
                seen = await anext(draining)
                assert (seen.open, seen.done) == (0, True)
                with pytest.raises(StopAsyncIteration):
                    await anext(draining)

    run(test)


def test_forgotten_addresses_and_the_end_reset_what_is_open():
    async def test() -> None:
        port = free_port()
        async with server(saying(b"here")) as target, plane() as made:
            await made.begin(published(port, target))
            async with client(port) as first:
                await first.ask()
                await made.forget(("127.0.0.2",))
                assert await first.ask() == b"here"
                await made.forget((LOOPBACK,))
                with pytest.raises(ConnectionResetError):
                    await first.reader.read()
            async with client(port) as second:
                await second.ask()
                await made.close()
                with pytest.raises(ConnectionResetError):
                    await second.reader.read()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, port)

    run(test)


@dataclass
class Echo(asyncio.DatagramProtocol):
    """Answers each datagram with its word and whom it took it from."""

    word: bytes
    seen: list[tuple[str, int]] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.seen.append(addr)
        self.transport.sendto(self.word + b" " + data, addr)


@contextlib.asynccontextmanager
async def echo(word: bytes) -> AsyncIterator[tuple[int, Echo]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Echo(word), local_addr=(LOOPBACK, 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()


@contextlib.contextmanager
def flow(port: int, address: str = LOOPBACK):
    """A client's connected socket: it takes answers from that very address only."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.connect((address, port))
        made.settimeout(0)
        yield made


async def ask(made: socket.socket, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(made, data)
    return await loop.sock_recv(made, 2000)


def test_next_datagram_after_a_switch_goes_to_the_new_target():
    async def test() -> None:
        port = free_port(Transport.UDP)
        async with echo(b"old") as (old, _), echo(b"new") as (new, _), plane() as made:
            await made.begin(published(port, old, Transport.UDP))
            with flow(port) as one, flow(port) as two:
                assert await ask(one, b"1") == b"old 1"
                assert await ask(two, b"2") == b"old 2"
                await made.change(
                    published(port, old, Transport.UDP), published(port, new, Transport.UDP)
                )
                assert await ask(one, b"3") == b"new 3"
                assert await ask(two, b"4") == b"new 4"

    run(test)


@pytest.mark.parametrize("address", [LOOPBACK, "127.0.0.2", "::1"])
def test_answers_come_from_the_address_that_was_asked(address):
    async def test() -> None:
        port = free_port(Transport.UDP)
        async with echo(b"here") as (target, _), plane() as made:
            await made.begin(published(port, target, Transport.UDP, address=""))
            with flow(port, address) as one:
                assert await ask(one, b"1") == b"here 1"

    run(test)


def test_longest_unused_flow_makes_room(monkeypatch):
    monkeypatch.setattr(relay, "FLOWS_MAX", 2)

    async def test() -> None:
        port = free_port(Transport.UDP)
        async with echo(b"here") as (target, heard), plane() as made:
            await made.begin(published(port, target, Transport.UDP))
            with flow(port) as one, flow(port) as two, flow(port) as three:
                for made_flow in (one, two, one, three, one):
                    await ask(made_flow, b"x")
                sources = heard.seen
                assert sources[0] == sources[2] == sources[4], "it was used and stayed"
                assert len(set(sources)) == 3
                assert len(made.flows) == 2

    run(test)


def test_idle_flow_is_forgotten(monkeypatch):
    monkeypatch.setattr(datagrams, "IDLE", 0.0)

    async def test() -> None:
        port = free_port(Transport.UDP)
        async with echo(b"here") as (target, heard), plane() as made:
            await made.begin(published(port, target, Transport.UDP))
            with flow(port) as one:
                one.send(b"x")
                while not heard.seen or len(made.flows):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0)

    run(test)
