"""Machines of pipelines: started as they are wanted, found again, and started again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from weakref import WeakValueDictionary

from mizzen.engine.operation import TemporaryFailure
from mizzen.host.changes import Changes
from mizzen.host.paths import Folders
from mizzen.machines import config
from mizzen.machines.protocol import Connect, Driver
from mizzen.machines.qemu import accel
from mizzen.machines.registry import ENDED
from mizzen.model.deployment import Address, Deployment, Vm
from mizzen.model.errors import Failure
from mizzen.model.incident import Incident, IncidentKind
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState, joined
from mizzen.store import outcomes

from . import last_words, links, machines
from .publish import Setting

DEPLOYED = "machines deploy"
"""The operation whose keys are machines' names."""

LEASED = "network address"
"""The operation whose keys are machines' names and prefixes; see ``address_key``."""

_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def turn(machine: str) -> asyncio.Lock:
    """Return what whoever starts or stops a pipeline's machine holds meanwhile.

    One process has the pipelines of a state folder, so none but its tasks have to wait.
    """
    lock = _turns.get(machine)
    if lock is None:
        lock = _turns[machine] = asyncio.Lock()
    return lock


def address_key(machine: str, prefix: str) -> str:
    """Return what an address is set under."""
    return f"{machine} {prefix}"


def address_machine(key: str) -> str:
    """Return whose address is set under a key."""
    return key.partition(" ")[0]


def piped(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the names of all machines that pipelines have, or have addresses for."""
    leased = map(address_machine, outcomes.keys(connection, LEASED))
    return frozenset((*leased, *outcomes.keys(connection, DEPLOYED)))


async def lease(at: Setting, machine: str, prefix: str, exclude: Sequence[str]) -> Address:
    """Lease an address that a machine gets when it starts; the same one each time.

    Where there are no links it is the guest's own of QEMU's user networking. Raises Failure.
    """
    if not at.mode.kernel:
        return Address(machine, config.ADDRESS)
    leased = await at.means.network.request_address(links.tag(machine), prefix, exclude)
    return Address(machine, leased.address, leased.prefix)


async def is_leased(at: Setting, address: Address) -> bool:
    """Whether a machine has an address still, and would get it now."""
    if not at.mode.kernel or not address.prefix:
        return not at.mode.kernel and not address.prefix
    leased = await at.means.network.lease(address.address)
    return leased is not None and leased.tag == links.tag(address.machine)


async def deploy(
    at: Setting,
    wanted: Deployment,
    addresses: Sequence[Address],
    driver: Driver | None = None,
) -> Vm:
    """Have a machine run; one of that name that runs is taken as it is.

    addresses: leased for it. driver: None is QEMU's. Raises Failure. Where it fails or is
    cancelled, or its process is killed, the next call sets right what there is.
    """
    vm = Vm(wanted.machine, wanted.service, wanted.version, tuple(addresses))
    what = f"cannot start machine {vm.machine}"
    linked = [one for one in addresses if one.prefix]
    async with turn(vm.machine):
        with machines.registry(at.folders) as registry:
            known = registry.look(vm.machine)
            if known is not None and known.state is MachineState.STARTING:
                who = f"process {known.pid} starts it"
                raise TemporaryFailure(what, who, "wait for it to end")
            if known is not None and known.state not in ENDED:
                _check_addresses(what, known, [one.address for one in linked])
                return vm
            if known is not None:
                note_end(at.folders, known)
            chosen = await accel.choose(
                wanted.accel, wanted.image.kernel, at.means.connection, at.means.report
            )
            spec = replace(_spec(wanted, linked), accel=chosen)
            connect = _connect(at, spec)
            await machines.launch(
                spec, registry, at.means.report, connect, driver=driver, before=known
            )
    return vm


async def restart(at: Setting, machine: str, driver: Driver | None = None) -> None:
    """Start a machine that has ended as it was, with its addresses and ports.

    Raises Failure, also if there is none of that name.
    """
    async with turn(machine):
        with machines.registry(at.folders) as registry:
            known = registry.find(machine)
            if known.state not in ENDED:
                return
            spec = replace(known.spec, publish=known.ports or known.spec.publish)
            await machines.launch(
                spec,
                registry,
                at.means.report,
                _connect(at, spec),
                driver=driver,
                before=known,
            )


def find(folders: Folders, machine: str) -> Machine | None:
    """Return a machine as it is now, None if there is none of that name."""
    with machines.registry(folders) as registry:
        return registry.look(machine)


def note_end(folders: Folders, machine: Machine) -> tuple[Incident, bool]:
    """Record that a pipeline's machine has ended; see ``last_words.record``."""
    reason = f"it ended: {machine.reason}"
    at = machine.ended or machine.created
    return last_words.record(folders, machine.spec.name, IncidentKind.EXIT, reason, at)


async def running(folders: Folders, machine: str) -> AsyncIterator[bool]:
    """Yield whether a machine runs, now and whenever that changes."""
    told = None
    with Changes() as changes, machines.registry(folders) as registry:
        while True:
            changed = changes.watch(folders.state)  # every change of a machine's record
            if changed is None:
                what = f"cannot tell whether {machine} runs"
                fix = "raise fs.inotify.max_user_watches with sysctl"
                raise Failure(what, f"{folders.state} cannot be watched", fix)
            changed.clear()
            known = registry.look(machine)
            runs = known is not None and known.state is MachineState.RUNNING
            if runs != told:
                yield runs
                told = runs
            elif runs:
                await registry.ended(machine)
            else:
                await changed.wait()


def _check_addresses(what: str, known: Machine, addresses: Sequence[str]) -> None:
    has = known.spec.network.addresses if known.spec.network is not None else ()
    if set(has) != set(addresses):
        raise Failure(
            what,
            f"it runs with {_listed(has)}, and is to have {_listed(addresses)}",
            f"run: mizzen machines stop {known.spec.name}, and then: mizzen jobs rebuild JOB",
        )


def _listed(addresses: Sequence[str]) -> str:
    return " and ".join(addresses) or "QEMU's user networking"


def _spec(wanted: Deployment, linked: Sequence[Address]) -> MachineSpec:
    image = wanted.image
    process = image.process
    if process is not None:
        process = replace(
            process,
            arguments=(*process.arguments, *wanted.arguments),
            environment=_overridden(process.environment, wanted.environment),
        )
    network = None
    if linked:
        network = MachineNetwork(
            tuple(one.prefix for one in linked),
            wanted.label,
            outward=wanted.outward is not False,
            addresses=tuple(one.address for one in linked),
        )
    return MachineSpec(
        name=wanted.machine,
        reference=image.reference,
        kernel=image.kernel.path,
        initramfs=image.initramfs,
        root=image.root,
        process=process,
        memory=wanted.memory,
        vcpus=wanted.vcpus,
        command_line=joined(wanted.arguments) if process is None else "",
        publish=() if linked else wanted.ports,
        network=network,
        outward=bool(wanted.outward) and not linked,
    )


def _overridden(environment: Sequence[str], ours: Sequence[str]) -> tuple[str, ...]:
    names = {one.partition("=")[0] for one in ours}
    kept = (one for one in environment if one.partition("=")[0] not in names)
    return (*kept, *ours)


def _connect(at: Setting, spec: MachineSpec) -> Connect | None:
    if spec.network is None:
        return None
    return partial(links.linked, at.means.network, spec.name, spec.network)
