"""What requests do: in the database, in what carries packets, and in what is told afterwards."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from memory_plane import FAILURE, MemoryPlane
from network_daemon import Running, opened, running

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Edge, Forward, Link, Publication, Transport
from mizzen.network import keeper as keeping
from mizzen.network.keeper import Broken, Keeper
from mizzen.network.links import HOST_MAC
from mizzen.network.plane import Parts
from mizzen.network.protocol import AllowEdge

FOUR, SIX = "10.70.0.0/24", "fd70::/64"
CELL = Cell(("fd70::2", "10.70.0.2"), ("fd70::1", "10.70.0.1"), "02:4d:00:00:00:01")


def web(target: str = "10.70.0.2", port: int = 80, name: str = "web", at: str = "") -> Publication:
    return Publication(name, (Forward(at, port, Transport.TCP, target, 8080),))


async def linked(running: Running, machine: str, *prefixes: str, label: str = "") -> Link:
    for prefix in prefixes or (FOUR,):
        await running.network.request_address(f"machine:{machine}", prefix)
    link, tap = await running.network.open_link(machine, label=label)
    assert tap is not None
    os.close(tap)
    return link


def scenario(
    folder: Path, act: Callable[[Running], Awaitable[None]], plane: MemoryPlane | None = None
) -> None:
    async def run() -> None:
        async with running(folder, plane) as found:
            await act(found)

    asyncio.run(run())


async def refused(why: str, asked: Awaitable[object]) -> None:
    with pytest.raises(Failure) as failure:
        await asked
    assert why in str(failure.value)


def in_database(folder: Path) -> Parts:
    plane = MemoryPlane()
    with opened(folder) as connection:
        asyncio.run(Keeper(connection, plane).begin())
    return plane.carried


def test_what_was_acknowledged_is_there_after_a_new_start(tmp_path: Path) -> None:
    plane = MemoryPlane()

    async def act(one: Running) -> None:
        link = await linked(one, "a", FOUR, SIX, label="web")
        assert link == Link(
            1, "a", "web", ("10.70.0.2", "fd70::2"), ("10.70.0.1", "fd70::1"), "02:4d:00:00:00:01"
        )
        assert plane.interfaces == {"mizzen-1"}
        both = web().forwards + web("fd70::2").forwards
        await one.network.publish([Publication("web", both)])
        await one.network.allow(Edge("web", "db", Transport.TCP, 5432))
        status = await one.network.status()
        assert (status.mode, status.addresses, status.links) == ("kernel", 2, 1)
        assert (status.publications, status.edges) == (1, 1)

    scenario(tmp_path, act, plane)
    assert in_database(tmp_path) == plane.carried
    assert len(plane.carried.publications) == 1


def test_a_link_is_made_of_what_its_tag_holds(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        ask = one.network
        await refused(
            "no address has the tag machine:a; run: mizzen ip request", ask.open_link("a")
        )
        await ask.request_address("machine:a", FOUR)
        await ask.request_address("machine:a", "10.80.0.0/24")
        await refused("more than one IPv4 address (10.70.0.2, 10.80.0.2)", ask.open_link("a"))
        await ask.release_address("machine:a", "10.80.0.0/24")
        await linked(one, "a", FOUR)
        await refused("machine a has a link with it", ask.release_address("machine:a"))
        await ask.close_link("a")
        await ask.close_link("a")
        await ask.release_address("machine:a")
        assert one.plane.carried == Parts()
        assert one.plane.interfaces == set()
        assert ("10.70.0.2",) in one.plane.forgotten

    scenario(tmp_path, act)


def test_a_link_opened_again_stays_the_same_and_a_new_one_never_has_its_number(
    tmp_path: Path,
) -> None:
    async def act(one: Running) -> None:
        first = await linked(one, "a")
        assert await linked(one, "a") == first
        again = await linked(one, "a", SIX, label="other")
        assert again == replace(
            first,
            label="other",
            addresses=("10.70.0.2", "fd70::2"),
            gateways=("10.70.0.1", "fd70::1"),
        )
        await one.network.close_link("a")
        assert (await linked(one, "b")).number == 2
        await one.network.close_link("b")

    scenario(tmp_path, act)
    scenario(tmp_path, lambda one: _numbered(one, 3))


async def _numbered(one: Running, number: int) -> None:
    assert (await linked(one, "c")).number == number


def test_the_part_that_changes_is_what_a_link_and_its_edges_concern(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "far")
        db = await linked(one, "db-1", label="db")
        edge = Edge("web", "db", Transport.TCP, 5432)
        await one.network.allow(edge)
        assert one.plane.changes[-1] == (Parts((db,)), Parts((db,), (), (edge,)))
        mine = await linked(one, "web-1", label="web")
        assert one.plane.changes[-1] == (
            Parts((db,), (), (edge,)),
            Parts((db, mine), (), (edge,)),
        )
        await one.network.close_link("web-1")
        assert one.plane.changes[-1] == (
            Parts((db, mine), (), (edge,)),
            Parts((db,), (), (edge,)),
        )
        await one.network.deny(edge)
        assert one.plane.changes[-1] == (Parts((db,), (), (edge,)), Parts((db,)))
        count = len(one.plane.changes)
        await one.network.deny(edge)
        assert len(one.plane.changes) == count

    scenario(tmp_path, act)


def test_publications_switch_at_one_instant(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        for machine in "abc":
            await linked(one, machine)
        old = web(), web("10.70.0.3", 81, "api")
        new = web("10.70.0.3"), web("10.70.0.4", 81, "api")
        await one.network.publish(old)
        await one.network.publish(new, {"web": old[0], "api": old[1]})
        assert one.plane.changes[-1] == (Parts((), old), Parts((), new))
        # As a client does that has not heard the answer.
        count = len(one.plane.changes)
        await one.network.publish(new, {"web": old[0], "api": old[1]})
        assert len(one.plane.changes) == count
        # What swaps ports does not conflict with itself.
        await one.network.publish([web("10.70.0.3", 81), web("10.70.0.4", 80, "api")])
        await one.network.unpublish("web", "nothing", "web")
        assert [one.name async for one in one.network.publications()] == ["api"]

    scenario(tmp_path, act)


def test_expectations_that_do_not_hold_change_nothing(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a")
        ask, why = one.network, "web is not what it was"
        await refused(why, ask.publish([web()], {"web": web()}))
        await ask.publish([web()], {"web": None})
        await refused(why, ask.publish([web(port=81)], {"web": None}))
        await refused("gone is not", ask.publish([web(port=81)], {"gone": web(name="gone")}))
        assert one.plane.carried.publications == (web(),)

    scenario(tmp_path, act)


@pytest.mark.parametrize(
    ("publications", "why"),
    [
        ([web(name="other")], "port 80/tcp is published by web; choose another port"),
        ([web(name="other", at="192.0.2.1")], "port 192.0.2.1:80/tcp is published by web"),
        ([web(port=443, name="other")], "port 443/tcp is published by narrow"),
        ([web(port=443, name="other", at="192.0.2.1")], "192.0.2.1:443/tcp is published by narrow"),
        ([web(port=8), web(port=8, name="b")], "cannot publish b: port 8/tcp is published by web"),
        ([Publication("b", web(port=8).forwards * 2)], "port 8/tcp is there twice"),
        ([web(port=8), web(port=9)], "web is there twice"),
        ([Publication("b", ())], "cannot publish b: it has no ports"),
        ([web(port=0)], "there is no port 0"),
        ([web(port=65536)], "there is no port 65536"),
        ([web("10.70.0.9", 8)], "10.70.0.9 is no machine's address"),
        ([web("10.70.0.1", 8)], "10.70.0.1 is no machine's address"),
        ([web("10.70.0.9x", 8)], "'10.70.0.9x' is no address"),
        ([web("fe80::1%2", 8)], "no host's own address"),
        ([web(port=8, at="fd00::1")], "fd00::1 cannot lead to 10.70.0.2, which is IPv4"),
        ([web(port=8, at="224.0.0.1")], "224.0.0.1 is no host's own address"),
        ([web(port=8, at="10.70.0.2")], "10.70.0.2 is the address of machine a"),
        ([web(port=22)], "port 22/tcp is taken by sshd"),
        ([web(port=8, name="")], "its name is empty"),
        ([web(port=8, name="a\n")], "cannot be shown"),
        ([web(port=8, name="x" * 64)], "has 64 characters"),
        ([web(port=n + 1000, name=f"p{n}") for n in range(257)], "that is 257 ports"),
    ],
)
def test_publications_that_conflict_or_make_no_sense_change_nothing(
    tmp_path: Path, publications: list[Publication], why: str
) -> None:
    async def act(one: Running) -> None:
        one.plane.listeners[22] = "sshd"
        await linked(one, "a", FOUR, SIX)
        there = [web(), web(port=443, name="narrow", at="192.0.2.1")]
        await one.network.publish(there)
        before = one.plane.carried
        await refused(why, one.network.publish(publications))
        assert one.plane.carried == before
        assert [one async for one in one.network.publications()] == sorted(there, key=_name)

    scenario(tmp_path, act)


def _name(publication: Publication) -> str:
    return publication.name


def test_the_same_port_of_other_addresses_families_and_transports_is_free(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a", FOUR, SIX)
        udp = Forward("", 80, Transport.UDP, "10.70.0.2", 53)
        for publication in (
            web(at="192.0.2.1"),
            web(at="192.0.2.2", name="b"),
            web("fd70::2", name="c"),
            Publication("d", (udp,)),
        ):
            await one.network.publish([publication])
        await refused("published by", one.network.publish([web(name="e")]))

    scenario(tmp_path, act)


def test_addresses_are_kept_in_one_form(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a", SIX)
        sloppy, proper = web("FD70:0::0:2", at="FD01::0:1"), web("fd70::2", at="fd01::1")
        await one.network.publish([sloppy])
        assert [one async for one in one.network.publications()] == [proper]
        await one.network.publish([web("fd70::2")], {"web": sloppy})

    scenario(tmp_path, act)


def test_a_port_that_is_published_already_may_have_a_listener(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a")
        await linked(one, "b")
        await one.network.publish([web()])
        one.plane.listeners[80] = "somebody who began later"
        await one.network.publish([web("10.70.0.3")])

    scenario(tmp_path, act)


def test_a_link_that_published_ports_lead_to_is_not_closed(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a")
        await one.network.publish([web()])
        await refused("published ports of web lead to it", one.network.close_link("a"))
        assert one.plane.interfaces == {"mizzen-1"}
        await linked(one, "a")
        await one.network.unpublish("web")
        await one.network.close_link("a")

    scenario(tmp_path, act)


@pytest.mark.parametrize("step", ["change", "open_link", "forget"])
def test_a_link_that_cannot_be_made_leaves_nothing(tmp_path: Path, step: str) -> None:
    async def act(one: Running) -> None:
        await one.network.request_address("machine:a", FOUR)
        one.plane.failing[step] = FAILURE
        await refused("the test says so", one.network.open_link("a"))
        one.plane.failing.clear()
        assert one.plane.carried == Parts()
        assert one.plane.interfaces == set()
        assert [link async for link in one.network.links()] == []
        assert (await linked(one, "a")).number == 1

    scenario(tmp_path, act)
    assert len(in_database(tmp_path).links) == 1


def test_a_change_that_cannot_be_made_is_not_in_the_database_either(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a")
        await one.network.publish([web()])
        one.plane.failing["change"] = FAILURE
        ask = one.network
        await refused("the test says so", ask.publish([web(port=81)]))
        await refused("the test says so", ask.unpublish("web"))
        await refused("the test says so", ask.allow(Edge("a", "b", Transport.TCP, 1)))
        assert [one async for one in ask.publications()] == [web()]
        assert [edge async for edge in ask.edges()] == []
        one.plane.failing.clear()
        await ask.publish([web(port=82)])

    scenario(tmp_path, act)
    assert in_database(tmp_path).publications == (web(port=82),)
    assert in_database(tmp_path).edges == ()


def test_what_cannot_be_written_is_taken_back(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a")
        before = one.plane.carried
        one.connection.execute("PRAGMA max_page_count = 1")  # rounded up to what there is
        large = [web(port=n + 1, name=f"{'x' * 50}{n}") for n in range(250)]
        await refused("free some disk space", one.network.publish(large))
        assert one.plane.carried == before
        one.connection.execute("PRAGMA max_page_count = 1000000")
        await one.network.publish([web()])

    scenario(tmp_path, act)
    assert in_database(tmp_path).publications == (web(),)


class FailsToCommit:
    """A connection whose next COMMIT fails as on a disk that is full."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *arguments)


def test_what_cannot_be_committed_is_taken_back(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a")
        before = one.plane.carried
        await one.network.request_address("machine:b", FOUR)
        one.keeper._connection = FailsToCommit(one.connection)  # type: ignore[assignment]
        await refused("disk is full", one.network.publish([web()]))
        await refused("disk is full", one.network.open_link("b"))
        assert one.plane.carried == before
        assert one.plane.interfaces == {"mizzen-1"}
        one.keeper._connection = one.connection
        await one.network.publish([web()])

    scenario(tmp_path, act)


def test_a_link_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(MemoryPlane):
        async def open_link(self, link: Link, namespace: int | None) -> int | None:
            return await asyncio.get_running_loop().create_future()

    async def act(one: Running) -> None:
        monkeypatch.setattr(keeping, "LINK_TIME", 0.01)
        await one.network.request_address("machine:a", FOUR)
        await refused("the kernel has not done it", one.network.open_link("a"))
        assert one.plane.carried == Parts()

    scenario(tmp_path, act, Slow())


def test_a_daemon_that_cannot_take_a_change_back_ends(tmp_path: Path) -> None:
    class Stubborn(MemoryPlane):
        async def open_link(self, link: Link, namespace: int | None) -> int | None:
            self.failing["change"] = FAILURE
            raise FAILURE

    async def run() -> None:
        with opened(tmp_path) as connection:
            keeper = Keeper(connection, Stubborn())
            await keeper.begin()
            with suppress(Failure):
                await keeper.answer(keeping.protocol.RequestAddress("machine:a", FOUR), None)
            with pytest.raises(Broken):
                await keeper.answer(keeping.protocol.OpenLink("a"), None)

    asyncio.run(run())
    assert in_database(tmp_path) == Parts()


def test_without_root_there_are_ports_alone(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        ask, why = one.network, "runs without root"
        await refused(why, ask.request_address("a", FOUR))
        await refused(why, ask.open_link("a"))
        await refused(why, ask.open_cell(CELL))
        await refused(why, ask.allow(Edge("a", "b", Transport.TCP, 1)))
        await ask.publish([web("127.0.0.1", 8080)])
        assert (await ask.status()).mode == "user"

    scenario(tmp_path, act, MemoryPlane("user"))


def test_long_lists_come_in_pages_that_fit(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        await linked(one, "a", SIX)
        many = [Edge("s" * 63, "é" * 60 + f"{n:03}", Transport.TCP, 1) for n in range(600)]
        for edge in many:
            await one.keeper.answer(AllowEdge(edge), None)
        assert [edge async for edge in one.network.edges()] == many
        quotes = '"' * 252  # two bytes each, as JSON
        tags = [f"{n:03}{quotes}" for n in range(600)]
        for tag in tags:
            await one.network.request_address(tag, "10.70.0.0/22")
        assert sorted([lease.tag async for lease in one.network.addresses()][:-1]) == tags
        ports = tuple(
            Forward(f"fd00::1234:5678:9abc:{n:x}", 80, Transport.TCP, "fd70::2", 8080)
            for n in range(256)
        )
        wide = [
            Publication(f"{n}", tuple(replace(port, port=n) for port in ports))
            for n in range(1, 10)
        ]
        for publication in wide:
            await one.network.publish([publication])
        assert [one async for one in one.network.publications()] == wide

    scenario(tmp_path, act)


def test_a_database_that_no_daemon_wrote_is_named(tmp_path: Path) -> None:
    with opened(tmp_path) as connection:
        connection.execute("INSERT INTO link VALUES (1, 'a', '{}')")
        with pytest.raises(Failure, match="cannot read the network's database"):
            Keeper(connection, MemoryPlane())


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (replace(CELL, addresses=(), gateways=()), "it has no address"),
        (replace(CELL, addresses=("10.70.0.2", "10.70.0.3")), "two of one family"),
        (replace(CELL, addresses=("10.70.0.2",) * 9), "two of one family"),
        (replace(CELL, addresses=("10.70.0.x", "fd70::2")), "is no address"),
        (replace(CELL, addresses=("224.0.0.1", "fd70::2")), "no host's own address"),
        (replace(CELL, gateways=CELL.gateways[:1]), "its gateways are not"),
        (replace(CELL, gateways=CELL.gateways[::-1]), "its gateways are not"),
        (replace(CELL, gateways=CELL.gateways * 5), "its gateways are not"),
        (replace(CELL, gateways=("fd70:0::2", "10.70.0.1")), "its gateway has its address"),
        (replace(CELL, mac=""), "is no machine's MAC address"),
        (replace(CELL, mac="02-4d-00-00-00-01"), "is no machine's MAC address"),
        (replace(CELL, mac="01:00:5e:00:00:01"), "is no machine's MAC address"),
        (replace(CELL, mac="00:00:00:00:00:00"), "is no machine's MAC address"),
        (replace(CELL, mac=HOST_MAC.upper()), "is no machine's MAC address"),
        (replace(CELL, mac="02" * 3000), "..."),
    ],
)
def test_a_cell_that_no_machine_could_have_is_refused(tmp_path: Path, cell: Cell, why: str) -> None:
    async def act(one: Running) -> None:
        await refused(why, one.network.open_cell(cell))
        assert one.plane.cells == []

    scenario(tmp_path, act)


def test_a_cell_is_made_of_what_was_asked_for_in_canonical_form(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        asked = Cell(("fd70:0::2", "10.70.0.2"), ("FD70::1", "10.70.0.1"), CELL.mac.upper())
        os.close(await one.network.open_cell(asked))
        assert one.plane.cells == [CELL]
        assert one.plane.changes == []

    scenario(tmp_path, act)


def test_a_cell_and_a_change_do_not_wait_for_each_other(tmp_path: Path) -> None:
    class Slow(MemoryPlane):
        async def open_cell(self, cell: Cell) -> int:
            begun["cell"].set()
            await go_on.wait()
            return await super().open_cell(cell)

        async def open_link(self, link: Link, namespace: int | None) -> int | None:
            begun["link"].set()
            await go_on.wait()
            return await super().open_link(link, namespace)

    begun = {"cell": asyncio.Event(), "link": asyncio.Event()}
    go_on = asyncio.Event()

    async def act(one: Running) -> None:
        cell = asyncio.create_task(one.network.open_cell(CELL))
        await begun["cell"].wait()
        link = asyncio.create_task(linked(one, "a"))
        await begun["link"].wait()
        assert not cell.done()
        go_on.set()
        await link
        os.close(await cell)

    scenario(tmp_path, act, Slow())


def test_a_cell_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(MemoryPlane):
        async def open_cell(self, cell: Cell) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(keeping, "LINK_TIME", 0.05)

    async def act(one: Running) -> None:
        await refused("has not done it within", one.network.open_cell(CELL))

    scenario(tmp_path, act, Stuck())
