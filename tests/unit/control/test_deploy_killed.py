"""Mizzen is killed at each step of a deployment, or of its end, and the next one goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deploying import PREFIX, Place, image_in
from killed import Steps, killed_at
from memory_plane import MemoryPlane
from publishing import daemon_in_thread

from mizzen.control import deploy, dispose, down, machines, stage
from mizzen.control.dispose import Standing
from mizzen.control.publish import setting
from mizzen.control.stage import Candidate
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.model.machine import MachineState
from mizzen.model.progress import silent
from mizzen.model.service import Probe, ProbeKind, Service, ServicePort
from mizzen.network import client
from mizzen.network.client import Network
from mizzen.store import outcomes, services
from mizzen.store.database import connect

WEB = Service("web", (ServicePort(8080, 80),), Probe(ProbeKind.NONE), drain=0)
STRIDE = 11
"""Of the steps, one in as many is tried: it takes half a second."""


async def work(folders: Folders, version: int) -> None:
    """Deploy a version, let it go live, and free the one before, as a pipeline does."""
    name = f"web-{version:08x}"
    async with setting(folders, silent) as at:
        place = Place(at, MemoryPlane(), image_in(folders.state))
        key = deploy.address_key(name, PREFIX)
        place.remember(deploy.LEASED, key)
        address = await deploy.lease(at, name, PREFIX, [])
        place.remember(deploy.DEPLOYED, name)
        wanted = place.deployment(name.rpartition("-")[2])
        vm = await deploy.deploy(at, wanted, [address], place.driver)
        live = await stage.go_live(at, "web", [Candidate(WEB, vm)])
        place.remember(stage.PUBLISHED, "web", msgspec.json.encode(live))
        standing = Standing(frozenset({"web"}), complete=True)
        await dispose.dispose(at, place.world, standing, lambda _: None)


def killed(folders: Folders, version: int, at: int) -> bool:
    """Do the work in a child that is killed at a step; return whether it came to that."""
    return killed_amid(partial(work, folders, version), at)


def killed_amid(act: Callable[[], Coroutine[Any, Any, object]], at: int) -> bool:
    """Do something in a child that is killed at a step; return whether it came to that."""

    async def traced(step: Steps) -> None:
        trace(step)
        await act()

    return killed_at(at, traced)


def trace(step: Steps) -> None:
    """Count this process's statements of SQL and answers of the daemon."""
    connect, receive = sqlite3.connect, client._receive

    def connected(*arguments, **more):
        connection = connect(*arguments, **more)
        connection.set_trace_callback(step)
        return connection

    async def received(connection):
        step()
        answer = await receive(connection)
        step()
        return answer

    sqlite3.connect, client._receive = connected, received


def serving(folders: Folders, network: Network) -> set[str]:
    """Return the machines that ports lead to; all of them run."""

    async def main() -> set[str]:
        targets = {f.target async for one in network.publications() for f in one.forwards}
        with machines.registry(folders) as registry:
            found = {
                one.spec.name
                for one in registry.everything()
                if targets.intersection(one.spec.network.addresses)
            }
            assert all(registry.alive(name) for name in found)
        return found

    return asyncio.run(main())


def whole(folders: Folders, network: Network, version: int) -> None:
    """Check that just one version is there, with all that belongs to it."""
    name = f"web-{version:08x}"
    assert serving(folders, network) == {name}
    with machines.registry(folders) as registry:
        (machine,) = registry.everything()
    assert (machine.spec.name, machine.state) == (name, MachineState.RUNNING)

    async def main() -> None:
        assert [one.tag async for one in network.addresses()] == [f"machine:{name}"]
        assert [link.machine async for link, _ in network.links()] == [name]

    asyncio.run(main())


def nothing(folders: Folders, network: Network) -> None:
    """Check that nothing is there, and nothing remembered."""

    async def main() -> None:
        assert [one.tag async for one in network.addresses()] == []
        assert [link.machine async for link, _ in network.links()] == []
        assert [one.name async for one in network.publications()] == []

    asyncio.run(main())
    with machines.registry(folders) as registry:
        assert registry.everything() == []
    with contextlib.closing(connect(folders.database)) as connection:
        assert outcomes.pipelines(connection) == []
        assert services.everything(connection) == []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Folders, Network]]:
    folders = Folders(tmp_path / "state", tmp_path / "run")
    folders.state.mkdir()
    folders.runtime.mkdir()
    with daemon_in_thread(folders.runtime, "kernel") as network:
        try:
            yield folders, network
        finally:
            with machines.registry(folders) as registry:
                for machine in registry.everything():
                    vmm = ProcessId(machine.pid, machine.pid_start)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(vmm.pid, signal.SIGKILL)


def test_deployment_killed_at_any_step_is_brought_to_its_end_and_what_is_live_serves(place):
    folders, network = place
    assert not killed(folders, 0, 10**9)
    live = {"web-00000000"}
    for version, at in enumerate(itertools.count(1, STRIDE), 1):
        over = not killed(folders, version, at)
        now = serving(folders, network)
        assert now in (live, {f"web-{version:08x}"}), at
        assert not killed(folders, version, 10**9)
        whole(folders, network, version)
        live = {f"web-{version:08x}"}
        if over:
            break
    assert at > 100


def test_pipeline_that_is_taken_down_and_killed_at_any_step_is_gone_in_the_end(place):
    folders, network = place
    act = partial(down.down, folders, "shop", silent, dry_run=False)
    for version, at in enumerate(itertools.count(1, STRIDE)):
        assert not killed(folders, version, 10**9)
        over = not killed_amid(act, at)
        with contextlib.closing(connect(folders.database)) as connection:
            known = outcomes.pipelines(connection)
        if known:
            assert not killed_amid(act, 10**9)
        nothing(folders, network)
        if over:
            break
    assert at > 50
