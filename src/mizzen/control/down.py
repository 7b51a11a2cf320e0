"""Take a pipeline down: end and free what it has made, and forget what is remembered of it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from mizzen.engine.world import PipelineWorld
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.job import Outcome
from mizzen.model.machine import Machine
from mizzen.model.network import Publication
from mizzen.model.progress import Report
from mizzen.model.service import Release
from mizzen.publish import remove as removal
from mizzen.publish.retire import publications
from mizzen.publish.settle import settle
from mizzen.store import outcomes
from mizzen.store import services as store
from mizzen.store.database import connect_to_read, transaction

from . import deploy, dispose, engine_lock, links, machines, stage
from .collect import Item, Kind, Plan, planned
from .publish import Setting, setting
from .unix_http import Absent, ask


@dataclass(frozen=True, slots=True)
class Facts:
    """All that tells what a pipeline has made and is there still.

    known: what is remembered of all pipelines. machines, published: by name. services: names.
    edges: what they are set under (``dispose.edge_key``). tags: of all leases.
    """

    pipeline: str
    known: tuple[Outcome, ...]
    services: frozenset[str]
    releases: tuple[Release, ...]
    published: Mapping[str, Publication]
    edges: frozenset[str]
    machines: Mapping[str, Machine]
    tags: frozenset[str]


async def down(folders: Folders, pipeline: str, report: Report, *, dry_run: bool) -> Plan:
    """Free what a pipeline has made, unless dry_run; return what that is, and what stays.

    What another pipeline has taken over stays, and machines that serve somebody else. Killed on
    the way, the next call goes on. Raises Failure, also if a ``mizzen up`` runs the pipeline.
    """
    what = f"cannot take down {pipeline}"
    _check_known(folders, what, pipeline)
    with contextlib.nullcontext() if dry_run else _kept_from_running(folders, what, pipeline):
        async with setting(folders, report) as at:
            if dry_run:
                return decide(await _facts(at, pipeline))
            await settle(at.means)
            return await _take_down(at, pipeline)


def decide(facts: Facts) -> Plan:
    """Return what to free, in that order, and what to keep: pure."""
    judged = [*_services(facts), *_edges(facts)]
    gone = {item.name for free, item in judged if free and item.kind is Kind.SERVICE}
    return planned([*judged, *_machines(facts, gone)])


def _services(facts: Facts) -> Iterable[tuple[bool, Item]]:
    """Judge services that it publishes, and those that failed before any was live."""
    owners, publishers = _owners(facts), _publishers(facts)
    for name in sorted(facts.services):
        others = publishers[name] - {facts.pipeline}
        if facts.pipeline in publishers[name]:
            why = f"{min(others)} publishes it too" if others else f"{facts.pipeline} publishes it"
            yield not others, Item(Kind.SERVICE, name, why)
        elif not others and _never_live(name, facts, owners):
            yield True, Item(Kind.SERVICE, name, "it was never live")


def _never_live(name: str, facts: Facts, owners: Mapping[str, set[str]]) -> bool:
    """Whether only machines of the pipeline's were tried as a service, and none got ready."""
    own = [one for one in facts.releases if one.service == name]
    return bool(own) and all(
        one.live_since is None and facts.pipeline in owners[one.machine] for one in own
    )


def _edges(facts: Facts) -> Iterable[tuple[bool, Item]]:
    for one in facts.known:
        mine = one.pipeline == facts.pipeline and one.operation == dispose.ALLOWED
        if mine and one.key in facts.edges:
            yield True, Item(Kind.EDGE, one.key, f"{facts.pipeline} allows it")


def _machines(facts: Facts, gone: set[str]) -> Iterable[tuple[bool, Item]]:
    """Judge machines, and addresses without one. gone: services that are freed before."""
    releases = [one for one in facts.releases if one.service not in gone]
    published = [one for one in facts.published.values() if one.name not in gone]
    for name, owners in sorted(_owners(facts).items()):
        machine = facts.machines.get(name)
        there = machine is not None or links.tag(name) in facts.tags
        if facts.pipeline not in owners or not there:
            continue
        others = owners - {facts.pipeline}
        if others:
            why = f"{min(others)} has it too"
        else:
            why = dispose.why_used(name, machine, releases, published)
        kind = Kind.MACHINE if machine is not None else Kind.ADDRESSES
        freed = f"{facts.pipeline} deployed it" if machine is not None else "their machine is gone"
        yield not why, Item(kind, name, why or freed)


def _publishers(facts: Facts) -> Mapping[str, set[str]]:
    """Return which pipelines publish services, by the service's name; none of other names.

    A service without a release of what was live is somebody's who took the name after a removal.
    """
    released = {(one.service, one.machine) for one in facts.releases}
    found: defaultdict[str, set[str]] = defaultdict(set)
    for one in facts.known:
        for live in stage.remembered([one]) if one.operation == stage.PUBLISHED else []:
            for part in live.services:
                if (part.service, part.machine) in released:
                    found[part.service].add(one.pipeline)
    return found


def _owners(facts: Facts) -> Mapping[str, set[str]]:
    """Return which pipelines have machines or addresses for them, by name; none of other names."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for one in facts.known:
        if name := _machine(one):
            found[name].add(one.pipeline)
    return found


def _machine(known: Outcome) -> str:
    """Return the name of the machine that an outcome is about, "" if it is about none."""
    if known.operation == deploy.LEASED:
        return deploy.address_machine(known.key)
    return known.key if known.operation == deploy.DEPLOYED else ""


async def _facts(at: Setting, pipeline: str) -> Facts:
    network, connection = at.means.network, at.means.connection
    kernel = at.mode.kernel
    edges = [one async for one in network.edges()] if kernel else []
    leases = [one async for one in network.addresses()] if kernel else []
    with machines.registry(at.folders) as registry:
        known = {one.spec.name: one for one in registry.everything()}
    return Facts(
        pipeline=pipeline,
        known=tuple(outcomes.everything(connection)),
        services=frozenset(one.name for one in store.everything(connection)),
        releases=tuple(store.all_releases(connection)),
        published=await publications(at.means),
        edges=frozenset(
            dispose.edge_key(one.source, one.target, f"{one.port}/{one.transport}") for one in edges
        ),
        machines=known,
        tags=frozenset(one.tag for one in leases),
    )


async def _take_down(at: Setting, pipeline: str) -> Plan:
    """Free one thing after the other, of what is left at that time; see ``down``."""
    world = PipelineWorld(at.means.connection, pipeline, lambda _: frozenset())
    freed = []
    while (plan := decide(await _facts(at, pipeline))).free:
        item = plan.free[0]
        await _free(at, world, item)
        freed.append(item)
    _forget(at, pipeline, plan)
    return replace(plan, free=tuple(freed))


async def _free(at: Setting, world: PipelineWorld, item: Item) -> None:
    if item.kind is Kind.SERVICE:
        await removal.remove(at.means, item.name)
    elif item.kind is Kind.EDGE:
        await dispose.close_edge(at, world, item.name)
    else:
        await dispose.free(at, world, item.name, deploy.find(at.folders, item.name))


def _forget(at: Setting, pipeline: str, left: Plan) -> None:
    """Forget what is remembered of a pipeline, except of machines that stay."""
    kept = {item.name for item in left.keep if item.kind is not Kind.SERVICE}
    with transaction(at.means.connection) as connection:
        for one in outcomes.everything(connection):
            if one.pipeline == pipeline and _machine(one) not in kept:
                outcomes.forget(connection, one.operation, one.key)


def _check_known(folders: Folders, what: str, pipeline: str) -> None:
    with contextlib.closing(connect_to_read(folders.database)) as connection:
        names = outcomes.pipelines(connection)
    if pipeline not in names:
        fix = f"there are: {', '.join(names)}" if names else "see: mizzen jobs list"
        raise Failure(what, "it has made nothing here", fix)


@dataclass(frozen=True, slots=True)
class _Running:
    """A pipeline that ``mizzen up`` tells of."""

    name: str


@contextlib.contextmanager
def _kept_from_running(folders: Folders, what: str, pipeline: str) -> Iterator[None]:
    """Let no ``mizzen up`` begin while the block lasts, unless one runs without the pipeline.

    Raises Failure if one runs the pipeline.
    """
    with contextlib.ExitStack() as stack:
        try:
            running = ask(folders.control, what, "/pipelines", list[_Running])
        except Absent:
            running = []
            stack.enter_context(engine_lock.held(folders, what, "wait for it to end, or stop it"))
        if pipeline in [one.name for one in running]:
            why = f"mizzen up runs it, {engine_lock.holder(folders)}"
            raise Failure(what, why, "stop that first, or take the pipeline out of its file")
        yield
