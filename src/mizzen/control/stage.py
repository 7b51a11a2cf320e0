"""Services of pipelines: machines that run already go live, several as one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from mizzen.model.deployment import Live, LiveService, Vm
from mizzen.model.errors import Failure
from mizzen.model.job import Outcome
from mizzen.model.network import Publication
from mizzen.model.service import Release, ReleaseState, Service
from mizzen.publish import routes
from mizzen.publish.retire import publications
from mizzen.publish.rollout import roll_out
from mizzen.publish.settle import settle
from mizzen.store import services as store
from mizzen.store.database import transaction

from . import deploy, releases
from .publish import Setting

PUBLISHED = "publish"
"""The operation whose keys are what goes live as one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine that a service's ports are to lead to."""

    service: Service
    vm: Vm


async def go_live(at: Setting, name: str, candidates: Sequence[Candidate]) -> Live:
    """Roll out the machines that are not live, all at one instant; return what is live then.

    name: of all of them together. What a killed process has left is settled first. Raises
    Failure; what was live stays so then.
    """
    await settle(at.means)
    published = await publications(at.means)
    wanted = [(one.service, _release(at, one)) for one in candidates]
    waiting = [pair for pair in wanted if not _is_live(pair, published.get(pair[0].name))]
    with transaction(at.means.connection) as connection:
        for service, _ in (pair for pair in wanted if pair not in waiting):
            store.save(connection, service)  # how it is drained, say, may have changed
    if waiting:
        await roll_out(at.means, waiting)
    parts = (LiveService(one.service.name, one.vm.machine) for one in candidates)
    return Live(name, tuple(parts))


async def is_live(at: Setting, candidates: Sequence[Candidate]) -> bool:
    """Whether all ports lead to these machines where they answer now."""
    published = await publications(at.means)
    return all(
        _is_live((one.service, _release(at, one)), published.get(one.service.name))
        for one in candidates
    )


def check_unique(name: str, candidates: Sequence[Candidate], others: Iterable[Live]) -> None:
    """Raise Failure if a service is named twice, here or by another that is live."""
    what = f"cannot publish {name}"
    names = [one.service.name for one in candidates]
    for service in names:
        if names.count(service) > 1:
            raise Failure(what, f"it has two services called {service}", "rename one")
        for other in others:
            if any(part.service == service for part in other.services):
                why = f"{service} is published as a part of {other.name}"
                raise Failure(what, why, "choose another name for one")


def remembered(known: Iterable[Outcome]) -> list[Live]:
    """Return what was live last. known: outcomes of ``PUBLISHED``, some without a value."""
    values = (one.value for one in known)
    return [msgspec.json.decode(value, type=Live) for value in values if value is not None]


def _is_live(pair: tuple[Service, Release], published: Publication | None) -> bool:
    return routes.leads_to(published, *pair)


def _release(at: Setting, candidate: Candidate) -> Release:
    """Return a new release that is the machine. Raises Failure if that has ended."""
    service, vm = candidate.service, candidate.vm
    machine = deploy.find(at.folders, vm.machine)
    if machine is None:
        raise Failure(
            f"cannot publish machine {vm.machine}",
            "it is gone",
            "do again the job that deployed it: mizzen jobs rebuild JOB",
        )
    new = Release(service.name, releases.NEVER_BEFORE, ReleaseState.STARTING, time.time())
    return releases.of_machine(new, machine, at.mode, service)
