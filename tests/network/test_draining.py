"""Waiting until the connections that a publication led to a machine have ended."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import pytest
from netns import dial, say
from netplane import BOTH, HOST, Network, forwards

from mizzen.model.errors import Failure
from mizzen.network import draining
from mizzen.network.protocol import Draining


@pytest.fixture
def web(net: Network) -> Network:
    for name in ("web", "other"):
        link = net.machine(name)
        net.service(name, name, 80)
        net.publish(name, *forwards(link, 8080 + link.number, 80))
    return net


def seen(
    net: Network, *targets: str, seconds: float = 60, then: Callable[[Draining], None] | None = None
) -> list[Draining]:
    """Return all that draining told; call something at each."""

    async def all_of_it() -> list[Draining]:
        told = []
        async with contextlib.aclosing(net.plane.drain(targets, seconds)) as reports:
            async for report in reports:
                told.append(report)
                if then is not None:
                    then(report)
        return told

    return net.do(all_of_it())


@BOTH
def test_nothing_open_is_told_at_once(web: Network, v: int) -> None:
    told = seen(web, web.parts.links[0].addresses[v])
    assert told == [Draining(0, done=False), Draining(0, done=True)]


@BOTH
def test_what_has_ended_before_is_not_counted(web: Network, v: int) -> None:
    """Its entry is in the table still."""
    target = web.parts.links[0].addresses[v]
    client = dial(web.outside, HOST[v], 8081)
    assert client is not None
    client.close()
    assert seen(web, target)[-1] == Draining(0, done=True)
    assert [flow.state in draining.ENDED for flow in web.flows() if flow.published] == [True]
    assert seen(web, target, seconds=0) == [Draining(0, done=True)]


def test_a_connection_that_was_being_made_at_the_switch_is_waited_for(
    web: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes into the table behind the look."""
    look = draining._Table.look
    clients: list[socket.socket] = []

    async def behind(table: draining._Table) -> None:
        await look(table)
        client = dial(web.outside, HOST[0], 8081)
        assert client is not None
        clients.append(client)

    monkeypatch.setattr(draining._Table, "look", behind)

    def end(report: Draining) -> None:
        if report.open:
            clients[0].close()

    told = seen(web, web.parts.links[0].addresses[0], then=end)
    assert [report.open for report in told] == [0, 1, 0]
    assert len(clients) == 1


@BOTH
def test_each_connection_that_ends_is_told(web: Network, v: int) -> None:
    clients = [dial(web.outside, HOST[v], 8081) for _ in range(3)]
    clients.append(dial(web.machines["other"], HOST[v], 8081))
    clients.append(dial(web.host, HOST[v], 8081))
    others = [dial(web.outside, HOST[v], 8082), dial(web.host, web.parts.links[0].addresses[v], 80)]

    def end_one(report: Draining) -> None:
        if report.open:
            client = clients.pop()
            assert client is not None
            client.close()

    told = seen(web, web.parts.links[0].addresses[v], then=end_one)
    assert [report.open for report in told] == [5, 4, 3, 2, 1, 0]
    assert [report.done for report in told] == [False] * 5 + [True]
    for other in others:  # to another machine, and not by a publication
        assert other is not None
        assert say(other)
        other.close()


@BOTH
def test_a_connection_stays_open_beyond_a_switch(web: Network, v: int) -> None:
    client = dial(web.outside, HOST[v], 8081)
    assert client is not None
    with client:
        assert say(client)
        assert seen(web, web.parts.links[0].addresses[v], seconds=0) == [Draining(1, done=True)]
        web.publish("web", *forwards(web.parts.links[1], 8081, 80))
        assert seen(web, web.parts.links[0].addresses[v], seconds=0) == [Draining(1, done=True)]


@BOTH
def test_one_port_of_a_target_is_watched_alone(web: Network, v: int) -> None:
    address = web.parts.links[0].addresses[v]
    bracketed = f"[{address}]" if v else address
    client = dial(web.outside, HOST[v], 8081)
    assert client is not None
    with client:
        assert seen(web, f"{bracketed}:80", seconds=0)[0].open == 1
        assert seen(web, f"{bracketed}:81", seconds=0)[0].open == 0


def test_the_deadline_ends_it(web: Network) -> None:
    client = dial(web.outside, HOST[0], 8081)
    assert client is not None
    with client:
        told = seen(web, web.parts.links[0].addresses[0], seconds=0.3)
    assert told == [Draining(1, done=False), Draining(1, done=True)]


def test_many_other_connections_tell_nothing(web: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel's filter passes is counted: no event of another machine's connections."""
    taken = []
    original = draining._Table._take
    monkeypatch.setattr(
        draining._Table, "_take", lambda self, message: (taken.append(1), original(self, message))
    )
    client = dial(web.outside, HOST[0], 8081)
    assert client is not None

    def busy(report: Draining) -> None:
        if report.open:
            for _ in range(50):
                other = dial(web.outside, HOST[0], 8082)
                assert other is not None
                other.close()
            client.close()

    assert seen(web, web.parts.links[0].addresses[0], then=busy)[-1] == Draining(0, done=True)
    assert 0 < len(taken) < 10


def test_events_that_were_lost_are_made_up_for(web: Network) -> None:
    """A flood that the socket has no room for: the table is asked again."""
    target = web.parts.links[0].addresses[0]
    clients = [dial(web.outside, HOST[0], 8081) for _ in range(20)]

    def end_all(report: Draining) -> None:
        while clients:
            client = clients.pop()
            assert client is not None
            client.close()
        for _ in range(300):
            other = dial(web.outside, HOST[0], 8081)
            assert other is not None
            other.close()

    async def cramped() -> Draining:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(draining, "_RECEIVE_BUFFER", 2048)
            report = Draining(-1, done=False)
            async with asyncio.timeout(60):
                async for report in web.plane.drain((target,), 60):
                    if report.open == 20:
                        end_all(report)
            return report

    assert web.do(cramped()) == Draining(0, done=True)


def test_what_is_no_target_is_refused(net: Network) -> None:
    async def begin() -> None:
        async for _ in draining.drain(["nonsense"], 1):
            pass

    with pytest.raises(Failure, match="cannot drain 'nonsense'"):
        net.do(begin())
