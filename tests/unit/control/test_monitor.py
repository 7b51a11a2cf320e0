"""Machines are kept running that are live, or that nobody has published; others are left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from deploying import Place, place
from manual_clock import ManualClock

from mizzen.control import deploy
from mizzen.control.incidents import all_incidents
from mizzen.control.monitor import LONGEST, STEADY, Guard, pause
from mizzen.model.deployment import Vm
from mizzen.model.errors import Failure
from mizzen.model.machine import MachineState
from mizzen.model.service import Release, ReleaseState, Service, ServicePort
from mizzen.store import services as store
from mizzen.store.database import transaction

OLD, NEW = "web-00000001", "web-00000002"


class Clock(ManualClock):
    """Tells when somebody begins to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.set()
        await super().sleep(seconds)


class Watching:
    """A place, a clock, and whoever watches the new machine."""

    def __init__(self, at: Place) -> None:
        self.at = at
        self.clock = Clock()
        self.guard = Guard(at.folders, at.told.append, self.clock, at.driver)

    async def start(self, name: str) -> Vm:
        address = await deploy.lease(self.at.at, name, "10.70.0.0/24", [])
        wanted = self.at.deployment(name.rpartition("-")[2])
        return await deploy.deploy(self.at.at, wanted, [address], self.at.driver)

    def release(self, name: str, state: ReleaseState) -> None:
        """Write a release that is that machine."""
        with transaction(self.at.at.means.connection) as connection:
            store.save(connection, Service("web", (ServicePort(8080, 80),)))
            store.add_release(connection, Release("web", 0, state, 0.0, machine=name))

    def runs(self, name: str) -> bool:
        return self.at.machine(name).state is MachineState.RUNNING

    async def sees(self, vm: Vm) -> str:
        """Watch until there is a failure, with the clock wound on; return that."""
        with pytest.raises(Failure) as raised:
            async for _ in self.guard.watch(vm, [OLD, NEW]):
                pass
        return str(raised.value)

    async def pass_time(self) -> None:
        await self.clock.asked.wait()
        self.at.driver.asked.clear()
        self.clock.pass_(max(self.clock.sleepers))
        await self.at.driver.asked.wait()


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., None]:
    def run(act: Callable[[Watching], Awaitable[None]]) -> None:
        async def main() -> None:
            async with place(tmp_path) as made:
                await act(Watching(made))

        asyncio.run(main())

    return run


def test_end_is_a_failure_that_names_its_incident_and_the_machine_is_started_again(scenario):
    async def act(it: Watching) -> None:
        vm = await it.start(NEW)
        telling = it.guard.watch(vm, [NEW])
        async with contextlib.aclosing(telling):
            assert (await anext(telling)).machine == NEW
            first = await it.at.kill(NEW)
            with pytest.raises(Failure, match=f"machine {NEW} has ended") as raised:
                await anext(telling)
        (incident,) = all_incidents(it.at.folders)
        assert f"see: mizzen incidents show {incident.id}" in str(raised.value)
        telling = it.guard.watch(vm, [NEW])
        async with contextlib.aclosing(telling):
            reviving = asyncio.create_task(anext(telling))
            await it.pass_time()
            await reviving
        again = it.at.machine(NEW)
        assert again.pid != first.pid
        assert again.spec == first.spec
        assert all_incidents(it.at.folders)[0].count == 1

    scenario(act)


def test_version_that_failed_its_rollout_is_not_started_again(scenario):
    async def act(it: Watching) -> None:
        vm = await it.start(NEW)
        it.release(NEW, ReleaseState.FAILED)
        await it.at.kill(NEW)
        for _ in range(2):
            assert f"machine {NEW} has ended" in await it.sees(vm)
        assert not it.runs(NEW)
        assert [one.count for one in all_incidents(it.at.folders)] == [1]

    scenario(act)


def test_live_version_is_started_again_while_the_one_that_is_wanted_has_failed(scenario):
    async def act(it: Watching) -> None:
        vm = await it.start(NEW)
        await it.start(OLD)
        it.release(OLD, ReleaseState.LIVE)
        it.release(NEW, ReleaseState.FAILED)
        await it.at.kill(NEW)
        assert NEW in await it.sees(vm)
        again = asyncio.create_task(it.sees(vm))  # nothing new of that one
        await it.at.kill(OLD)
        await it.pass_time()
        assert not again.done()
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)

    scenario(act)


def test_live_version_is_watched_beside_the_one_that_is_wanted(scenario):
    async def act(it: Watching) -> None:
        vm = await it.start(NEW)
        await it.start(OLD)
        it.release(OLD, ReleaseState.LIVE)
        telling = it.guard.watch(vm, [OLD, NEW])
        async with contextlib.aclosing(telling):
            await anext(telling)
            await it.at.kill(OLD)
            with pytest.raises(Failure, match=f"machine {OLD} has ended"):
                await anext(telling)

    scenario(act)


def test_version_that_was_retired_may_end(scenario):
    async def act(it: Watching) -> None:
        vm = await it.start(NEW)
        await it.start(OLD)
        it.release(OLD, ReleaseState.LIVE)
        telling = it.guard.watch(vm, [OLD, NEW])
        async with contextlib.aclosing(telling):
            await anext(telling)
            (release,) = store.releases(it.at.at.means.connection, "web")
            store.save_release(
                it.at.at.means.connection,
                Release("web", release.number, ReleaseState.RETIRED, 0.0, machine=OLD),
            )
            await it.at.kill(OLD)
            await it.at.kill(NEW)
            with pytest.raises(Failure, match=f"machine {NEW} has ended"):
                await anext(telling)
        assert [one.source for one in all_incidents(it.at.folders)] == [NEW]

    scenario(act)


def test_machine_that_was_removed_by_hand_is_told_with_what_to_do(scenario):
    async def act(it: Watching) -> None:
        vm = await it.start(NEW)
        await it.at.kill(NEW)
        with deploy.machines.registry(it.at.folders) as registry:
            registry.remove(NEW)
        assert f"do again the job that deployed {NEW}" in await it.sees(vm)

    scenario(act)


def test_pauses_grow_up_to_a_limit_and_a_machine_that_ran_for_long_has_none():
    assert [pause(1.0, ends) for ends in (1, 2, 3)] == [2.0, 4.0, 8.0]
    assert pause(1.0, 10_000) == LONGEST
    assert pause(STEADY, 10_000) == 0.0
