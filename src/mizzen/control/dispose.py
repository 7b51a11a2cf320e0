"""Free what a pipeline has made and needs no more: machines with addresses, edges, images."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from mizzen.engine.job import World
from mizzen.machines.registry import ENDED
from mizzen.model.deployment import service_of
from mizzen.model.machine import Machine, MachineState
from mizzen.model.network import Publication
from mizzen.model.progress import Progress
from mizzen.model.service import Release, ReleaseState
from mizzen.publish.retire import GRACE, publications
from mizzen.publish.rollout import INTERRUPTED
from mizzen.store import services as store

from . import deploy, images, links, machines
from . import network as networks
from .collect import IN_USE, KEPT_FOR
from .publish import Setting
from .releases import LOOPBACK

ALLOWED = "network allow"
"""The operation whose keys are edges; see ``edge_key``."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a pipeline stands for at present.

    steps: services of which there is a step that deploys machines.
    complete: whether all that was to be live is, so that what is wanted is known.
    """

    steps: frozenset[str]
    complete: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """All that tells whether a machine may go.

    wanted: machines' names. replaced: services of which a machine runs that is wanted.
    """

    standing: Standing
    wanted: Collection[str]
    replaced: Collection[str]
    releases: tuple[Release, ...]
    published: Mapping[str, Publication]
    now: float


def edge_key(source: str, target: str, port: str) -> str:
    """Return what an edge is set under."""
    return f"{source} {target} {port}"


async def dispose(
    at: Setting, world: World, standing: Standing, log: Callable[[str], None]
) -> tuple[str, ...]:
    """Free what is needed no more, and return the names of the machines that were freed.

    log: told why others stay. Nothing that was made by hand is looked at. Raises Failure.
    """
    await _close_edges(at, world, standing)
    leased = {deploy.address_machine(one.key) for one in world.published(deploy.LEASED)}
    deployed = {one.key for one in world.published(deploy.DEPLOYED)}
    freed = []
    for name in sorted(leased | deployed):
        async with deploy.turn(name):
            published = await publications(at.means)
            machine = deploy.find(at.folders, name)
            facts = _facts(at, world, standing, published)
            why = why_kept(name, machine, facts)
            if why:
                log(f"{name} stays: {why}")
                continue
            log(f"{name} is freed")
            await free(at, world, name, machine)
            freed.append(name)
    needed = partial(_needed, at, world)
    async for one, gone, why in images.dispose(at.folders, needed, time.time()):
        log(f"{one.path} is removed: {why}" if gone else f"{one.path} stays: {why}")
    return tuple(freed)


def _needed(at: Setting, world: World) -> frozenset[str]:
    return images.booted(at.means.connection) | images.named(world.known())


def why_kept(name: str, machine: Machine | None, facts: Facts) -> str:
    """Return why a machine stays, "" if it may go: pure. machine: None if only leases are left."""
    if name in facts.wanted:
        return "the pipeline wants it"
    service = service_of(name)
    known = facts.standing
    if service not in facts.replaced and (service in known.steps or not known.complete):
        return "nothing has taken its place yet"
    why = why_used(name, machine, facts.releases, facts.published.values())
    if why:
        return why
    own = [one for one in facts.releases if one.machine == name]
    newest = max(own, key=lambda one: one.created, default=None)
    return _why_debugged(newest, facts) if newest is not None else ""


def why_used(
    name: str,
    machine: Machine | None,
    releases: Iterable[Release],
    published: Iterable[Publication],
) -> str:
    """Return how a machine serves somebody, "" if it does not: pure. machine: None if it is gone.

    releases, published: those that count.
    """
    for release in releases:
        if release.machine == name and release.state in IN_USE:
            return IN_USE[release.state]
    leading = [one.name for one in published if machine and _uses(one, machine)]
    return f"{', '.join(leading)} leads to it" if leading else ""


async def free(at: Setting, world: World, name: str, machine: Machine | None) -> None:
    """Stop and remove a machine with its link and addresses; killed, the next call goes on.

    machine: None if there are only addresses. Raises Failure.
    """
    with machines.registry(at.folders) as registry:
        if machine is not None and machine.state not in ENDED:
            task = Progress(f"Stopping machine {name}")
            at.means.report(task)
            await registry.stop(name, GRACE)
            at.means.report(replace(task, finished=True))
        if at.mode.kernel:
            await links.disconnect(at.means.network, name)
        if machine is not None:
            registry.remove(name)
    for one in world.published(deploy.LEASED):
        if deploy.address_machine(one.key) == name:
            world.forget(deploy.LEASED, one.key)
    world.forget(deploy.DEPLOYED, name)


async def close_edge(at: Setting, world: World, key: str) -> None:
    """Take an edge back. Raises Failure."""
    await at.means.network.deny(networks.edge(*key.split(" ")))
    world.forget(ALLOWED, key)


def _uses(published: Publication, machine: Machine) -> bool:
    network = machine.spec.network
    if network is not None:
        return any(one.target in network.addresses for one in published.forwards)
    ports = {port.host for port in machine.ports}
    return any(one.target == LOOPBACK and one.target_port in ports for one in published.forwards)


def _why_debugged(release: Release, facts: Facts) -> str:
    """Return why a release is kept: it is the last of its service that failed."""
    last = max(
        (one.number for one in facts.releases if one.service == release.service and _failed(one)),
        default=0,
    )
    left = release.created + KEPT_FOR - facts.now
    if not _failed(release) or release.number != last or left <= 0:
        return ""
    return f"it failed, and is kept {left / 3600:.0f} h more"


def _failed(release: Release) -> bool:
    return release.state is ReleaseState.FAILED and release.reason != INTERRUPTED


def _facts(
    at: Setting, world: World, standing: Standing, published: Mapping[str, Publication]
) -> Facts:
    leased = set(map(deploy.address_machine, world.wanted(deploy.LEASED)))
    deployed = world.wanted(deploy.DEPLOYED)
    return Facts(
        standing=standing,
        wanted=deployed | leased,
        replaced={service_of(one) for one in deployed if _runs(at, one)},
        releases=tuple(store.all_releases(at.means.connection)),
        published=published,
        now=time.time(),
    )


def _runs(at: Setting, name: str) -> bool:
    machine = deploy.find(at.folders, name)
    return machine is not None and machine.state is MachineState.RUNNING


async def _close_edges(at: Setting, world: World, standing: Standing) -> None:
    wanted = world.wanted(ALLOWED)
    for one in world.published(ALLOWED):
        if standing.complete and one.key not in wanted:
            await close_edge(at, world, one.key)
