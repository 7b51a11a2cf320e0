"""Releases as machines: what a user names as a target, and how it is started and stopped."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.machines.registry import ENDED
from mizzen.model.errors import Failure
from mizzen.model.incident import IncidentKind
from mizzen.model.machine import NAME, Machine, MachineNetwork, MachineSpec, Port
from mizzen.model.network import Transport
from mizzen.model.progress import Report
from mizzen.model.service import ProbeKind, Release, ReleaseState, Service
from mizzen.network.client import Network
from mizzen.store import machines as store
from mizzen.store.database import connect

from . import last_words, links, machines

LOOPBACK = "127.0.0.1"
"""Where machines with QEMU's user networking answer."""

NEVER_BEFORE = 0
"""A release's number before it is recorded."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How machines are reached.

    kernel: by links of their own, with addresses of these prefixes; else by ports of 127.0.0.1.
    """

    kernel: bool
    prefixes: tuple[str, ...]


class MachineStarter:
    """Starts releases as machines; a ``publish.starter.Starter``."""

    def __init__(self, folders: Folders, network: Network, mode: Mode, report: Report) -> None:
        self._folders = folders
        self._network = network
        self._mode = mode
        self._report = report

    async def start(self, service: Service, release: Release) -> Release:
        """Start a release's machine, of its spec if there is one, else of its source."""
        if not release.source:
            return release
        if release.spec is not None:
            spec = _fitted(release.spec, service, self._mode)
            machine = await machines.start_again(
                spec, release.machine, self._folders, self._report, self._network
            )
        else:
            wish = machines.Wish(
                source=release.source,
                name=release.machine,
                prefixes=self._mode.prefixes if self._mode.kernel else (),
                publish=() if self._mode.kernel else _ports(service),
                label=service.name,
                memory=service.memory,
                vcpus=service.vcpus,
                outward=service.outward,
            )
            machine = await machines.start(wish, self._folders, self._report, self._network)
        return replace(_answering(release, machine), spec=machine.spec)

    async def ended(self, release: Release) -> str:
        """Wait for the end of a release's machine, and return why it was."""
        if not release.machine:
            await asyncio.Event().wait()
        with machines.registry(self._folders) as registry:
            return (await registry.ended(release.machine)).reason

    async def stop(self, release: Release, grace: float) -> None:
        """Stop a release's machine, if there is one that runs; its addresses are free then."""
        machine = self._find(release.machine)
        if machine is None:
            return
        with machines.registry(self._folders) as registry:
            if registry.find(release.machine).state not in ENDED:
                await registry.stop(release.machine, grace)
        if machine.spec.network is not None:
            await links.disconnect(self._network, release.machine)

    async def remove(self, release: Release) -> None:
        """Forget a release's machine with its logs, link and addresses, if there is one."""
        if self._find(release.machine) is not None:
            await machines.remove(release.machine, self._folders, self._network)

    def keep(self, release: Release) -> str:
        """Record why a release failed as an incident, with its machine's last words."""
        machine = self._find(release.machine)
        if machine is None:
            return ""
        seen, _ = last_words.record(
            self._folders, release.machine, IncidentKind.ROLLOUT, release.reason, time.time()
        )
        see = f"see: mizzen incidents show {seen.id}"
        if ProcessId(machine.pid, machine.pid_start).alive:
            return f"{see}, or enter it: mizzen incidents enter {seen.id}"
        return see

    def _find(self, name: str) -> Machine | None:
        connection = connect(self._folders.database)
        try:
            return store.find(connection, name) if name else None
        finally:
            connection.close()


def resolve(folders: Folders, mode: Mode, service: Service, target: str) -> Release:
    """Return the new release that a target is: an address, a running machine, or a source.

    Raises Failure if it cannot be a release of that service.
    """
    new = Release(service.name, NEVER_BEFORE, ReleaseState.STARTING, time.time())
    try:
        return replace(new, addresses=(str(ip_address(target)),))
    except ValueError:
        pass
    if NAME.fullmatch(target):
        with machines.registry(folders) as registry:
            known = [one for one in registry.everything() if one.spec.name == target]
        if known:
            return of_machine(new, known[0], mode, service)
    if not mode.kernel and service.probe.kind is ProbeKind.TCP:
        raise _accepts_anyway(service)
    udp = any(port.transport is Transport.UDP for port in service.ports)
    if udp and not mode.kernel and not service.outward:
        raise Failure(
            f"cannot start a machine of {target}",
            "with QEMU's user networking its UDP ports answer only if it may reach all you can",
            "give --outward if it may",
        )
    folder = Path(target)
    return replace(new, source=str(folder.resolve()) if folder.is_dir() else target)


def of_machine(new: Release, machine: Machine, mode: Mode, service: Service) -> Release:
    """Return a release that is a machine which runs already. Raises Failure if it cannot be."""
    what = f"cannot publish machine {machine.spec.name}"
    if machine.state in ENDED:
        raise Failure(what, f"it has ended: {machine.reason}", "name one that runs")
    network = machine.spec.network
    if mode.kernel and (network is None or not network.addresses):
        raise Failure(
            what,
            "it has QEMU's user networking, and the network daemon leads to addresses only",
            "start it with --prefix",
        )
    if not mode.kernel and network is not None:
        raise Failure(
            what, "it has a link of the network daemon's, which does not run", "start that"
        )
    if not mode.kernel and service.probe.kind is ProbeKind.TCP:
        raise _accepts_anyway(service)
    release = _answering(replace(new, machine=machine.spec.name), machine)
    if network is None:
        there = {(port.guest, port.transport) for port in machine.ports}
        for port in service.ports:
            if (port.target_port, port.transport) not in there:
                wanted = f"{port.target_port}/{port.transport}"
                raise Failure(
                    what,
                    f"it has no port {wanted}",
                    f"start it with --publish {wanted}, or give it to machines.spec(ports=...)",
                )
    return release


def _accepts_anyway(service: Service) -> Failure:
    return Failure(
        f"cannot tell when {service.name} is ready",
        "QEMU's user networking accepts TCP connections before the machine does",
        "let it be ready by http, by a command, or as soon as it runs",
    )


def check_image(release: Release) -> None:
    """Raise Failure if a release that is to be repeated boots files that have gone."""
    spec = release.spec
    for path in (spec.kernel, spec.initramfs, spec.root) if spec is not None else ():
        if path is not None and not path.exists():
            raise Failure(
                f"cannot start {release} again",
                f"{path} is gone",
                f"build it again: mizzen publish switch {release.service}={release.source}",
            )


def _fitted(spec: MachineSpec, service: Service, mode: Mode) -> MachineSpec:
    """Return a spec for how machines are reached at present, which may have changed."""
    if mode.kernel:
        wired = spec.network or MachineNetwork(mode.prefixes, service.name)
        return replace(spec, network=wired, publish=())
    return replace(spec, network=None, publish=_ports(service))


def _ports(service: Service) -> tuple[Port, ...]:
    wanted = {(port.target_port, port.transport) for port in service.ports}
    if service.probe.port:
        wanted.add((service.probe.port, Transport.TCP))
    return tuple(Port(0, port, transport) for port, transport in sorted(wanted))


def _answering(release: Release, machine: Machine) -> Release:
    """Return a release with where its machine answers."""
    network = machine.spec.network
    if network is not None:
        return replace(release, addresses=network.addresses, ports=())
    ports = tuple((port.guest, port.host, port.transport) for port in machine.ports)
    return replace(release, addresses=(LOOPBACK,), ports=ports)
