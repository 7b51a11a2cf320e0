"""Addresses of machines, and who may reach whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mizzen.control import deploy as deploying
from mizzen.control import dispose
from mizzen.control import network as networks
from mizzen.control.publish import setting
from mizzen.engine.job import Job
from mizzen.engine.operation import Publication
from mizzen.engine.policy import Level, Policy
from mizzen.engine.step import failed, step, wrong
from mizzen.engine.terms import Input, Term
from mizzen.model.deployment import Address
from mizzen.model.network import Edge

from .arguments import guest_port, several, told, unfit
from .machines import PATIENT
from .specs import Spec, check_spec, name_of

__all__ = ["address", "allow"]


class Lease(Publication[Address], frozen=True, kw_only=True):
    """A machine has an address."""

    id: ClassVar[str] = deploying.LEASED
    noun: ClassVar[str] = "address"
    policy: ClassVar[Policy] = Policy(level=Level.LOW, retry=PATIENT)
    machine: str
    prefix: str
    exclude: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the machine's name and the prefix."""
        return deploying.address_key(self.machine, self.prefix)

    async def run(self, job: Job) -> Address:
        """Lease it, or find what was leased."""
        async with setting(job.folders, job.report) as at:
            leased = await deploying.lease(at, self.machine, self.prefix, self.exclude)
        job.log(f"{self.machine} has {leased}")
        return leased

    async def holds(self, value: Address, job: Job) -> bool:
        """Whether it is leased."""
        async with setting(job.folders, job.report) as at:
            return await deploying.is_leased(at, value)


class Allow(Publication[Edge], frozen=True, kw_only=True):
    """Machines of one label may reach a port of those of another."""

    id: ClassVar[str] = dispose.ALLOWED
    policy: ClassVar[Policy] = Policy(level=Level.MEDIUM, retry=PATIENT)
    source: str
    target: str
    port: str

    @property
    def key(self) -> str:
        """Return the edge."""
        return dispose.edge_key(self.source, self.target, self.port)

    async def run(self, job: Job) -> Edge:
        """Declare the edge."""
        edge = networks.edge(self.source, self.target, self.port)
        async with setting(job.folders, job.report) as at:
            await at.means.network.allow(edge)
        return edge

    async def holds(self, value: Edge, job: Job) -> bool:
        """Whether the edge is there."""
        async with setting(job.folders, job.report) as at:
            return value in [edge async for edge in at.means.network.edges()]


def address(spec: Term[Spec], prefix: str, exclude: Sequence[str] = ()) -> Term[Address]:
    """Lease an address for a machine: the lowest that is free, and the same one ever after.

    prefix: where it is taken from, IPv4 from /8 to /30 or IPv6 from /64 to /126; its first address
    is the host's. exclude: addresses and prefixes that nobody is to get, 256 at most.

        ip = network.address(spec, prefix="10.70.0.0/24", exclude=["10.70.0.1"])

    Where no network daemon runs as root, machines have QEMU's user networking: the address is the
    guest's own there, and the prefix is not used. Fails if the prefix is none, or is full.
    ``publish.collect`` gives it back with the machine.
    """
    if (bad := unfit(f"{Lease.id} {prefix}", spec=spec)) is not None:
        return bad
    label = f"{name_of(spec)} {prefix}"
    try:
        without = several(exclude)
    except TypeError as error:
        name = f"{Lease.id} {label}"
        return failed(name, wrong(name, "exclude", error))
    machine = spec.map(lambda one: check_spec(one).machine)
    return step(Lease, label, machine=machine, prefix=prefix, exclude=without)


def allow(source: str | Term[Spec], target: str | Term[Spec], port: int | str) -> Term[Edge]:
    """Let machines reach a port of others; nothing else leads from machine to machine.

    source, target: specs, or the labels of their ``network``. port: of the target's own, 25 or
    "53/udp".

        network.allow(entry, signer, 25)

    ``publish.collect`` takes it back once the step is gone. Needs the network daemon as root.
    """
    for one in (source, target):
        if not isinstance(one, str) and (bad := unfit(Allow.id, label=one)) is not None:
            return bad
    names = [one if isinstance(one, str) else name_of(one) for one in (source, target)]
    label = f"{names[0]} to {names[1]} {port}"
    try:
        number, transport = guest_port(port)
    except ValueError as error:
        return failed(f"{Allow.id} {label}", told(label, error))
    return step(
        Allow,
        label,
        source=_label(source),
        target=_label(target),
        port=f"{number}/{transport}",
    )


def _label(machines: str | Term[Spec]) -> Input[str]:
    return (
        machines if isinstance(machines, str) else machines.map(lambda one: check_spec(one).label)
    )
