"""Addresses and links of machines: given, kept, and given back whatever goes wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from memory_plane import FAILURE, MemoryPlane
from network_daemon import Running, running

from mizzen.control import links, machines
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure, UsageError
from mizzen.model.image import ProcessConfig
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState
from mizzen.network.client import Network
from mizzen.store import database
from mizzen.store import machines as store

WANTED = MachineNetwork(("10.70.0.0/24", "fd70::/64"), "shop", outward=False)
WHAT = "cannot start machine web"


def scenario(
    folder: Path, act: Callable[[Running], Awaitable[None]], plane: MemoryPlane | None = None
) -> None:
    async def run() -> None:
        async with running(folder, plane) as found:
            await act(found)

    asyncio.run(run())


async def leases(network: Network) -> list[tuple[str, str]]:
    return [(lease.tag, lease.address) async for lease in network.addresses()]


def test_machine_that_starts_keeps_its_link_and_addresses(tmp_path):
    async def act(daemon: Running) -> None:
        async with links.connected(daemon.network, "web", WANTED) as made:
            os.fstat(made.interface)
            network = made.network
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(made.interface)
        assert network.addresses == ("10.70.0.2", "fd70::2")
        assert network.gateways == ("10.70.0.1", "fd70::1")
        ((link, up),) = [found async for found in daemon.network.links()]
        assert (link.machine, link.label, link.outward, up) == ("web", "shop", False, True)
        assert (link.addresses, link.mac) == (network.addresses, network.mac)
        await links.disconnect(daemon.network, "web")
        assert await leases(daemon.network) == []
        assert daemon.plane.links == {}

    scenario(tmp_path, act)


@pytest.mark.parametrize("error", [Failure(WHAT, "no"), asyncio.CancelledError(), OSError("no")])
def test_machine_that_does_not_start_gives_them_back(tmp_path, error):
    async def act(daemon: Running) -> None:
        with pytest.raises(type(error)):
            async with links.connected(daemon.network, "web", WANTED) as made:
                raise error
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(made.interface)
        assert await leases(daemon.network) == []
        assert daemon.plane.links == {}

    scenario(tmp_path, act)


def test_second_prefix_that_is_full_takes_the_first_ones_address_back(tmp_path):
    async def act(daemon: Running) -> None:
        await daemon.network.request_address("mine", "10.9.0.0/30")  # its only one
        wanted = MachineNetwork(("fd70::/64", "10.9.0.0/30"))
        with pytest.raises(Failure, match=r"10\.9\.0\.0/30"):
            async with links.connected(daemon.network, "web", wanted):
                raise AssertionError
        assert [tag for tag, _ in await leases(daemon.network)] == ["mine"]

    scenario(tmp_path, act)


def test_link_that_cannot_be_taken_back_is_told_beside_the_reason(tmp_path):
    async def act(daemon: Running) -> None:
        with pytest.raises(Failure, match="it does not want to") as raised:
            async with links.connected(daemon.network, "web", WANTED):
                daemon.plane.failing["change"] = FAILURE
                raise Failure(WHAT, "it does not want to")
        assert "until mizzen collect" in raised.value.__notes__[0]

    scenario(tmp_path, act)


def test_prefixes_that_no_machine_can_have_are_refused_before_anything_is_built():
    links.check_prefixes(WHAT, WANTED.prefixes)
    with pytest.raises(UsageError, match=r"are of one family; give one prefix of IPv4"):
        links.check_prefixes(WHAT, ("10.0.0.0/24", "10.1.0.0/24"))
    with pytest.raises(UsageError, match="host bits set"):
        links.check_prefixes(WHAT, ("10.0.0.1/24",))


def test_daemon_without_root_makes_no_links_and_the_refusal_says_so(tmp_path):
    async def act(daemon: Running) -> None:
        with pytest.raises(Failure, match="runs without root and makes no links"):
            await links.check_kernel_mode(WHAT, daemon.network)

    scenario(tmp_path, act, MemoryPlane("user"))


def test_publish_and_prefix_together_are_refused_by_name(tmp_path):
    wish = machines.Wish(
        "x", name="web", publish=(machines.parse_publication("80"),), prefixes=("10.0.0.0/24",)
    )
    folders = Folders(tmp_path, tmp_path)
    with pytest.raises(UsageError, match="leave --publish out, and use: mizzen publish add"):
        asyncio.run(machines.start(wish, folders, lambda _: None, Network(tmp_path / "net.sock")))


def test_machine_is_forgotten_only_once_its_addresses_are_released(tmp_path):
    folders = Folders(tmp_path / "state", tmp_path / "run")
    nobody = Network(tmp_path / "nobody.sock")

    async def act(daemon: Running) -> None:
        async with links.connected(daemon.network, "web", WANTED) as made:
            network = made.network
        spec = MachineSpec(
            "web", "x", Path("k"), Path("i"), None, ProcessConfig(("/x",)), network=network
        )
        with closing(database.connect(folders.database)) as connection:
            store.save(connection, Machine(spec, MachineState.FAILED, 1, 0, 0.0, reason="ended"))
            with pytest.raises(Failure, match="nobody answers"):
                await machines.remove("web", folders, nobody)
            assert store.find(connection, "web") is not None
            assert len(await leases(daemon.network)) == 2
            await machines.remove("web", folders, daemon.network)
            assert store.find(connection, "web") is None
            assert await leases(daemon.network) == []

    scenario(tmp_path, act)


def test_link_of_a_start_that_was_killed_is_taken_back_with_its_machine(tmp_path):
    folders = Folders(tmp_path / "state", tmp_path / "run")

    async def act(daemon: Running) -> None:
        await daemon.network.request_address(links.tag("web"), "10.70.0.0/24")
        await daemon.network.open_link("web")
        spec = MachineSpec(
            "web", "x", Path("k"), Path("i"), None, ProcessConfig(("/x",)), network=WANTED
        )
        with closing(database.connect(folders.database)) as connection:
            store.save(connection, Machine(spec, MachineState.STARTING, 1 << 22, 1, 0.0))
            with machines.registry(folders) as registry:
                assert registry.find("web").state is MachineState.FAILED
            await machines.remove("web", folders, daemon.network)
            assert store.find(connection, "web") is None
        assert await leases(daemon.network) == []
        assert daemon.plane.links == {}

    scenario(tmp_path, act)
