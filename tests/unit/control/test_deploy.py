"""Machines of pipelines: started once, found again, set right whatever happened to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from deploying import Place, acting

from mizzen.control import deploy
from mizzen.control.incidents import all_incidents
from mizzen.engine.operation import TemporaryFailure
from mizzen.host import process
from mizzen.model.deployment import Address, service_of
from mizzen.model.errors import Failure
from mizzen.model.machine import Machine, MachineState, Port
from mizzen.store import machines as store

PREFIX = "10.70.0.0/24"
NAME = "web-00000001"


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., None]:
    return acting(tmp_path)


async def started(at: Place) -> tuple[Address, Machine]:
    address = await deploy.lease(at.at, NAME, PREFIX, ["10.70.0.2"])
    vm = await deploy.deploy(at.at, at.deployment(), [address], at.driver)
    assert (vm.machine, vm.service, vm.addresses) == (NAME, "web", (address,))
    return address, at.machine(NAME)


def test_machine_starts_with_the_address_that_was_leased_for_it(scenario):
    async def act(at: Place) -> None:
        address, machine = await started(at)
        assert str(address) == "10.70.0.3"
        assert machine.spec.network.addresses == ("10.70.0.3",)
        assert machine.spec.process.arguments == ("/app", "--fast")
        assert machine.spec.process.environment == ("B=1", "A=2")
        assert machine.spec.publish == ()
        assert service_of(NAME) == "web"

    scenario(act)


def test_machine_that_runs_is_taken_as_it_is(scenario):
    async def act(at: Place) -> None:
        _, first = await started(at)
        _, again = await started(at)
        assert again == first

    scenario(act)


def test_machine_that_has_ended_is_recorded_and_started_again_with_its_address(scenario):
    async def act(at: Place) -> None:
        _, first = await started(at)
        await at.kill(NAME)
        _, again = await started(at)
        assert (again.state, again.spec) == (MachineState.RUNNING, first.spec)
        assert again.pid != first.pid
        (incident,) = all_incidents(at.folders)
        assert incident.source == NAME
        assert "and sleeps" in incident.lines

    scenario(act)


def test_start_that_was_killed_half_way_is_done_again(scenario):
    async def act(at: Place) -> None:
        _, first = await started(at)
        await at.kill(NAME)
        killed = replace(first, state=MachineState.STARTING, pid=1 << 22, pid_start=1)
        store.save(at.at.means.connection, killed)
        _, again = await started(at)
        assert again.state is MachineState.RUNNING

    scenario(act)


def test_start_that_somebody_else_is_at_is_waited_for(scenario):
    async def act(at: Place) -> None:
        _, first = await started(at)
        store.save(at.at.means.connection, replace(first, state=MachineState.STARTING))
        with pytest.raises(TemporaryFailure, match="starts it; wait for it to end"):
            await started(at)
        store.save(at.at.means.connection, first)

    scenario(act)


@pytest.mark.parametrize("way", ["fails", "is cancelled"])
def test_start_that_does_not_succeed_leaves_no_machine_and_keeps_the_address(scenario, way):
    async def act(at: Place) -> None:
        address = await deploy.lease(at.at, NAME, PREFIX, [])
        at.driver.fails, at.driver.holds = way == "fails", True
        starting = asyncio.create_task(deploy.deploy(at.at, at.deployment(), [address], at.driver))
        await at.driver.asked.wait()
        starting.cancel()
        with pytest.raises((Failure, asyncio.CancelledError)):
            await starting
        assert deploy.find(at.folders, NAME) is None
        assert not at.folders.machine(NAME).exists()
        assert await deploy.is_leased(at.at, address)
        at.driver.fails, at.driver.holds = False, False
        vm = await deploy.deploy(at.at, at.deployment(), [address], at.driver)
        assert vm.addresses == (address,)

    scenario(act)


def test_machine_that_runs_with_another_address_is_not_touched(scenario):
    async def act(at: Place) -> None:
        await started(at)
        other = Address(NAME, "10.71.0.2", "10.71.0.0/24")
        with pytest.raises(Failure, match=r"runs with 10\.70\.0\.3, and is to have 10\.71\.0\.2"):
            await deploy.deploy(at.at, at.deployment(), [other], at.driver)
        assert at.machine(NAME).state is MachineState.RUNNING

    scenario(act)


def test_machine_is_not_started_with_an_address_that_is_not_its_own(scenario):
    async def act(at: Place) -> None:
        await deploy.lease(at.at, NAME, PREFIX, [])
        other = Address(NAME, "10.70.0.9", PREFIX)
        with pytest.raises(Failure, match=r"was to have 10\.70\.0\.9, and its tag holds"):
            await deploy.deploy(at.at, at.deployment(), [other], at.driver)
        assert deploy.find(at.folders, NAME) is None

    scenario(act)


def test_machine_is_started_again_as_it_was_and_stays_known_if_that_fails(scenario):
    async def act(at: Place) -> None:
        _, first = await started(at)
        await deploy.restart(at.at, NAME, at.driver)
        assert at.machine(NAME) == first, "it runs"
        await at.kill(NAME)
        at.driver.fails = True
        with pytest.raises(Failure, match="the test says so"):
            await deploy.restart(at.at, NAME, at.driver)
        assert at.machine(NAME).state is MachineState.FAILED
        at.driver.fails = False
        await deploy.restart(at.at, NAME, at.driver)
        again = at.machine(NAME)
        assert (again.state, again.spec) == (MachineState.RUNNING, first.spec)

    scenario(act)


def test_with_user_networking_a_machine_has_ports_which_it_keeps(scenario):
    async def act(at: Place) -> None:
        address, first = await started(at)
        assert (str(address), address.prefix) == ("10.0.2.15", "")
        assert first.spec.network is None
        assert first.ports == (Port(40080, 80),)
        await at.kill(NAME)
        await deploy.restart(at.at, NAME, at.driver)
        assert at.machine(NAME).spec.publish == first.ports
        assert await deploy.is_leased(at.at, address)
        assert not await deploy.is_leased(at.at, Address(NAME, "10.70.0.2", PREFIX))

    scenario(act, "user")


def test_address_that_was_released_or_given_to_another_is_not_leased(scenario):
    async def act(at: Place) -> None:
        network = at.at.means.network
        address = await deploy.lease(at.at, NAME, PREFIX, [])
        assert await deploy.is_leased(at.at, address)
        await network.release_address(deploy.links.tag(NAME))
        assert not await deploy.is_leased(at.at, address)
        await network.request_address("mine", PREFIX)
        assert not await deploy.is_leased(at.at, address)

    scenario(act)


def test_whether_a_machine_runs_is_told_at_each_change(scenario):
    async def act(at: Place) -> None:
        telling = deploy.running(at.folders, NAME)
        async with contextlib.aclosing(telling):
            assert await anext(telling) is False
            await started(at)
            assert await anext(telling) is True
            await at.kill(NAME)
            assert await anext(telling) is False
            next_one = asyncio.create_task(anext(telling))
            await deploy.restart(at.at, NAME, at.driver)
            assert await next_one is True

    scenario(act)


def test_end_is_counted_once(scenario):
    async def act(at: Place) -> None:
        await started(at)
        await at.kill(NAME)
        ended = at.machine(NAME)
        assert process.holders(at.folders.machine(NAME) / "vmm.log") == []
        first, news = deploy.note_end(at.folders, ended)
        again, old = deploy.note_end(at.folders, ended)
        assert (news, old) == (True, False)
        assert (first.id, first.count) == (again.id, again.count)

    scenario(act)
