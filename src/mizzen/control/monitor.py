"""Keep the machines of a service running: notice an end by event, record it, start it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from dataclasses import dataclass

from mizzen.engine.job import Clock
from mizzen.host.paths import Folders
from mizzen.machines.protocol import Driver
from mizzen.machines.registry import ENDED
from mizzen.model.deployment import Health, Vm, service_of
from mizzen.model.errors import Failure
from mizzen.model.machine import Machine
from mizzen.model.progress import Report
from mizzen.model.service import Release, ReleaseState
from mizzen.store import services as store
from mizzen.store.database import connect

from . import deploy, machines
from .publish import setting

STEADY = 600.0
"""Seconds after which a machine that ends is started again at once."""

LONGEST = 300.0
"""Seconds that starting one again is put off at most."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Keeps machines running. driver: None is QEMU's."""

    folders: Folders
    report: Report
    clock: Clock
    driver: Driver | None = None

    async def watch(self, vm: Vm, deployed: Sequence[str]) -> AsyncGenerator[Health, None]:
        """Yield that a machine runs, until it or one that is live in its stead does not.

        deployed: the pipeline's machines. Raises Failure at an end, with its incident; asked
        again, it starts what has ended again if that is live, or was never published. One that
        failed its rollout stays ended, for debugging.
        """
        others = [
            name
            for name in deployed
            if service_of(name) == vm.service and name != vm.machine and self._is_live(name)
        ]
        for name in others:
            await self._revive(name)
        known = deploy.find(self.folders, vm.machine)
        if known is not None and known.state in ENDED and not self._to_run(vm.machine):
            failure, news = self._ended(known)
            if not news:  # it has been told, and stays so
                await self._keep(others)
            raise failure
        await self._revive(vm.machine)
        known = deploy.find(self.folders, vm.machine)
        if known is None:
            raise _gone(vm.machine)
        yield Health(vm.machine, known.created)
        end = await self._first_end([vm.machine, *others], vm.machine)
        if end is not None:
            raise end

    async def _keep(self, names: Sequence[str]) -> None:
        """Keep live machines running until there are none of them."""
        left = [name for name in names if self._is_live(name)]
        while left:
            await self._first_end(left)
            left = [name for name in left if self._is_live(name)]
            for name in left:
                await self._revive(name)

    async def _revive(self, name: str) -> None:
        """Start a machine again if it has ended, after a pause."""
        async with deploy.turn(name):  # nobody else is starting it
            known = deploy.find(self.folders, name)
        if known is None:
            raise _gone(name)
        if known.state not in ENDED:
            return
        incident, _ = deploy.note_end(self.folders, known)
        lived = (known.ended or known.created) - known.created
        await self.clock.sleep(pause(lived, incident.count))
        async with setting(self.folders, self.report) as at:
            await deploy.restart(at, name, self.driver)

    async def _first_end(self, names: Sequence[str], wanted: str = "") -> Failure | None:
        """Wait until any of some machines has ended that nobody wanted to end, and return why.

        Those that are not wanted may end once they are live no more; None if all of them did.
        """
        with machines.registry(self.folders) as registry:
            ends = {asyncio.create_task(registry.ended(name)): name for name in names}
            try:
                while ends:
                    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        name = ends.pop(task)
                        gone = task.exception() is not None
                        if name == wanted or self._is_live(name):
                            return _gone(name) if gone else self._ended(task.result())[0]
                return None
            finally:
                for task in ends:
                    task.cancel()
                await asyncio.gather(*ends, return_exceptions=True)

    def _ended(self, machine: Machine) -> tuple[Failure, bool]:
        incident, news = deploy.note_end(self.folders, machine)
        see = f"see: mizzen incidents show {incident.id}"
        return Failure(f"machine {machine.spec.name} has ended", machine.reason, see), news

    def _is_live(self, machine: str) -> bool:
        return any(one.state is ReleaseState.LIVE for one in self._releases(machine))

    def _to_run(self, machine: str) -> bool:
        """Whether a machine is live, or nobody has published it so far."""
        return not self._releases(machine) or self._is_live(machine)

    def _releases(self, machine: str) -> list[Release]:
        with closing(connect(self.folders.database)) as connection:
            return [one for one in store.all_releases(connection) if one.machine == machine]


def pause(lived: float, ends: int) -> float:
    """Return the seconds to wait before a machine is started again.

    lived: seconds that it ran. ends: how often it has ended so.
    """
    return 0.0 if lived >= STEADY else min(2.0 ** min(ends, 32), LONGEST)


def _gone(name: str) -> Failure:
    return Failure(
        f"machine {name} is gone",
        "somebody has removed it",
        f"do again the job that deployed {name}: mizzen jobs rebuild JOB",
    )
