"""Machines: what they are to be, that they run, and that they go on running."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

from mizzen.control import deploy as deploying
from mizzen.control.monitor import Guard
from mizzen.control.publish import setting
from mizzen.engine.job import Job
from mizzen.engine.operation import Observation, Publication
from mizzen.engine.policy import Level, Policy, Retry
from mizzen.engine.step import step
from mizzen.engine.terms import Input, Term, constant, gather
from mizzen.machines.registry import ENDED
from mizzen.model.deployment import Address, Deployment, Health, Vm
from mizzen.model.errors import Failure

from .arguments import unfit
from .specs import Spec, check_spec, name_of, spec

__all__ = ["Spec", "deploy", "is_running", "monitor", "spec"]

PATIENT = Retry(attempts=10_000, delay=1.0, longest=30.0)
"""For what waits for others: the network daemon, or somebody who rolls out by hand."""


class Deploy(Publication[Vm], frozen=True, kw_only=True):
    """A machine runs."""

    id: ClassVar[str] = deploying.DEPLOYED
    noun: ClassVar[str] = "machine"
    policy: ClassVar[Policy] = Policy(level=Level.MEDIUM, timeout=600.0, retry=PATIENT)
    machine: Deployment
    addresses: tuple[Address, ...]

    @property
    def key(self) -> str:
        """Return the machine's name."""
        return self.machine.machine

    async def run(self, job: Job) -> Vm:
        """Start it unless it runs."""
        async with setting(job.folders, job.report) as at:
            return await deploying.deploy(at, self.machine, self.addresses)

    async def holds(self, value: Vm, job: Job) -> bool:
        """Whether the machine runs."""
        known = deploying.find(job.folders, value.machine)
        return known is not None and known.state not in ENDED


class Monitor(Observation[Health], frozen=True, kw_only=True):
    """A machine goes on running."""

    id: ClassVar[str] = "machines monitor"
    policy: ClassVar[Policy] = Policy(retry=Retry(delay=1.0))
    vm: Vm

    async def observe(self, job: Job) -> AsyncGenerator[Health, None]:
        """Yield once it runs; an end of it is a failure."""
        deployed = [one.key for one in job.world.published(deploying.DEPLOYED)]
        guard = Guard(job.folders, job.report, job.clock)
        async for health in guard.watch(self.vm, deployed):
            yield health


class IsRunning(Observation[bool], frozen=True, kw_only=True):
    """Whether a machine runs."""

    id: ClassVar[str] = "machines is_running"
    machine: str

    async def observe(self, job: Job) -> AsyncGenerator[bool, None]:
        """Yield it at each change."""
        async for runs in deploying.running(job.folders, self.machine):
            yield runs


def deploy(spec: Term[Spec], ip: Input[Address] | Sequence[Input[Address]]) -> Term[Vm]:
    """Have a machine run. One that runs already stays; one that has ended is started again.

    spec: from ``machines.spec``. ip: what ``network.address`` gave it; an IPv4 and an IPv6 one
    can be given as a list.

        vm = machines.deploy(spec, [four, six])

    The machine before, of another content, runs on until ``publish.collect`` finds that nobody
    needs it. Fails if the machine does not start; how it does after that, ``publish.port`` and
    ``machines.monitor`` tell.
    """
    if (bad := unfit(Deploy.id, spec=spec)) is not None:
        return bad
    given = [ip] if isinstance(ip, Term | Address) else list(ip)
    addresses = gather(one if isinstance(one, Term) else constant(one) for one in given)
    machine = spec.pair(addresses).map(_planned)
    return step(Deploy, name_of(spec), machine=machine, addresses=addresses)


def monitor(vm: Term[Vm]) -> Term[Health]:
    """Watch a machine, and keep it running: an end is noticed at once, not by looking again.

    Whenever it ends by itself, the step has failed with the reason, an incident is recorded with
    the last that it wrote, and it is started again: at once if it ran for ten minutes, else after
    2 s, 4 s, ... up to 5 minutes. The version that is live is watched too, while another one takes
    or fails to take its place. A version that did not get ready is not started again.

        machines.monitor(vm)
    """
    if (bad := unfit(Monitor.id, vm=vm)) is not None:
        return bad
    return step(Monitor, _service(vm), vm=vm)


def is_running(vm: Term[Vm]) -> Term[bool]:
    """Return whether a machine runs, and again at each change, which is told by event.

    To show it somewhere, ``machines.is_running(vm).map(lambda runs: "up" if runs else "down")``.
    """
    if (bad := unfit(IsRunning.id, vm=vm)) is not None:
        return bad
    return step(IsRunning, _service(vm), machine=vm.map(_machine))


def _planned(values: tuple[Spec, tuple[Address, ...]]) -> Deployment:
    """Return the machine that a spec and its addresses make. Raises Failure."""
    wanted, addresses = check_spec(values[0]), values[1]
    what = f"cannot deploy {wanted.name}"
    if not addresses:
        raise Failure(what, "it has no address", "give what network.address returns")
    for address in addresses:
        if address.machine != wanted.machine:
            why = f"{address} is the address of {address.machine}"
            raise Failure(what, why, "give what network.address returns for this spec")
    return wanted.deployment(str(addresses[0]))


def _machine(vm: Vm) -> str:
    return vm.machine


def _service(vm: Term[Vm]) -> str:
    return vm.label.removeprefix(Deploy.id).strip()
