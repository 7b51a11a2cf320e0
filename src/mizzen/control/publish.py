"""Services as a user asks for them: add, switch, roll back, list, remove."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mizzen.host.paths import Folders
from mizzen.machines.checks import check_size
from mizzen.model.errors import Failure
from mizzen.model.network import Publication
from mizzen.model.progress import Report, silent
from mizzen.model.service import (
    Release,
    ReleaseState,
    RolloutReport,
    Service,
    ServiceReport,
    Underway,
)
from mizzen.publish import claims, routes
from mizzen.publish import remove as removal
from mizzen.publish.retire import publications
from mizzen.publish.rollout import roll_out
from mizzen.publish.settle import settle
from mizzen.publish.starter import Means
from mizzen.store import machines as machine_store
from mizzen.store import services as store
from mizzen.store.database import connect

from . import machines, releases
from . import network as networks
from .releases import MachineStarter, Mode
from .settings import read_settings

UNFINISHED = (ReleaseState.STARTING, ReleaseState.FAILED)


@dataclass(frozen=True, slots=True)
class View:
    """A service as a user sees it.

    live: the release that its ports lead to. current: the newest one if that is being rolled out,
        or has failed. busy: the process that changes the service at present, 0 if none does.
    releases: all, by number.
    """

    service: Service
    live: Release | None
    current: Release | None
    busy: int
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the commands of this module work with."""

    folders: Folders
    means: Means
    mode: Mode


@contextlib.asynccontextmanager
async def setting(folders: Folders, report: Report) -> AsyncIterator[Setting]:
    """Yield what rollouts work with; without root, start a network daemon if there is none.

    Raises Failure if the network cannot be asked.
    """
    # Only root can have more than a relay, and so decides whether to.
    root = os.geteuid() == 0
    network = networks.client(folders) if root else await networks.ensure_user(folders)
    status = await network.status()
    mode = Mode(status.mode == "kernel", read_settings().network.prefixes)
    starter = MachineStarter(folders, network, mode, report)
    with contextlib.closing(connect(folders.database)) as connection:
        yield Setting(folders, Means(connection, network, starter, report), mode)


async def add(folders: Folders, service: Service, target: str, report: Report) -> RolloutReport:
    """Publish a service that is new, or that was never live. Raises Failure."""
    check_size(service.name, service.memory, service.vcpus, (), outward=True)
    async with setting(folders, report) as at:
        await settle(at.means)
        known = store.releases(at.means.connection, service.name)
        if any(release.live_since is not None for release in known):
            raise Failure(
                f"cannot add {service.name}",
                "there is a service of that name",
                f"run: mizzen publish switch {service.name}={target}, or remove it first",
            )
        release = releases.resolve(folders, at.mode, service, target)
        return await roll_out(at.means, [(service, release)])


async def switch(folders: Folders, targets: Mapping[str, str], report: Report) -> RolloutReport:
    """Roll out new releases of services, all as one; targets by service. Raises Failure."""
    async with setting(folders, report) as at:
        await settle(at.means)
        wanted = []
        for name, target in targets.items():
            service = _service(at, f"cannot switch {name}", name)
            wanted.append((service, releases.resolve(folders, at.mode, service, target)))
        return await roll_out(at.means, wanted)


async def roll_back(folders: Folders, names: Sequence[str], report: Report) -> RolloutReport:
    """Roll out again what was live before, of one service or several as one. Raises Failure."""
    async with setting(folders, report) as at:
        await settle(at.means)
        published = await publications(at.means)
        wanted = []
        for name in names:
            service = _service(at, f"cannot roll back {name}", name)
            known = store.releases(at.means.connection, name)
            good = last_good(name, known, routes.live(service, known, published.get(name)))
            wanted.append((service, _again(at, service, good)))
        return await roll_out(at.means, wanted)


def last_good(name: str, known: Sequence[Release], now: Release | None) -> Release:
    """Return the release to roll back to: the one that was live before what is live now.

    Where that is itself a repetition, the one before what it repeats: so rolling back again and
    again goes back step by step. Raises Failure if there is none.
    """
    good = [one for one in known if one.live_since is not None]
    if now is not None:
        good = [one for one in good if one.number < (now.origin or now.number)]
    if not good:
        live_one = f"before {now}" if now is not None else "at all"
        raise Failure(
            f"cannot roll back {name}",
            f"no release was live {live_one}",
            f"see: mizzen publish show {name}",
        )
    return good[-1]


async def views(folders: Folders) -> list[View]:
    """Return all services, by name. Raises Failure if the network cannot be asked."""
    async with setting(folders, silent) as at:
        published = await publications(at.means)
        held = {one.service: one for one in store.underway(at.means.connection)}
        return [
            _view(at, service, published.get(service.name), held.get(service.name))
            for service in store.everything(at.means.connection)
        ]


async def view(folders: Folders, name: str) -> View:
    """Return one service. Raises Failure if there is none of that name."""
    found = [one for one in await views(folders) if one.service.name == name]
    if not found:
        raise _unknown(f"cannot show {name}")
    return found[0]


async def remove(folders: Folders, name: str, report: Report) -> ServiceReport:
    """Remove a service with all that was made for it. Raises Failure."""
    async with setting(folders, report) as at:
        await settle(at.means)
        return await removal.remove(at.means, name)


def _service(at: Setting, what: str, name: str) -> Service:
    service = store.find(at.means.connection, name)
    if service is None:
        raise _unknown(what)
    return service


def _unknown(what: str) -> Failure:
    return Failure(what, "there is no such service", "see: mizzen publish list")


def _again(at: Setting, service: Service, good: Release) -> Release:
    """Return a new release that repeats one. Raises Failure if it cannot be repeated."""
    new = replace(
        good,
        number=releases.NEVER_BEFORE,
        state=ReleaseState.STARTING,
        created=time.time(),
        origin=good.origin or good.number,
        live_since=None,
        reason="",
    )
    if good.source:
        releases.check_image(good)
        return replace(new, machine="", addresses=(), ports=())
    if not good.machine:
        return new
    machine = machine_store.find(at.means.connection, good.machine)
    if machine is None:
        raise Failure(
            f"cannot roll back {service.name}",
            f"the machine {good.machine} of {good} is gone, and Mizzen did not start it",
            f"name a target: mizzen publish switch {service.name}=TARGET",
        )
    with machines.registry(at.folders) as registry:
        return releases.of_machine(new, registry.find(good.machine), at.mode, service)


def _view(
    at: Setting, service: Service, published: Publication | None, held: Underway | None
) -> View:
    known = store.releases(at.means.connection, service.name)
    current = known[-1] if known and known[-1].state in UNFINISHED else None
    busy = held.pid if held is not None and claims.alive(held) else 0
    return View(service, routes.live(service, known, published), current, busy, tuple(known))
