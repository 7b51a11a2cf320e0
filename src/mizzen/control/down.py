"""Take a pipeline down: end and free what it has made, and forget what is remembered of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mizzen.engine.world import PipelineWorld
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import Report
from mizzen.publish import remove as removal
from mizzen.publish.retire import publications
from mizzen.publish.settle import settle
from mizzen.store import outcomes
from mizzen.store import services as store
from mizzen.store.database import connect_to_read, transaction

from . import deploy, dispose, engine_lock, machines
from .collect import Item, Kind, Plan
from .made import Facts, decide, machine_of
from .publish import Setting, setting
from .unix_http import Absent, ask


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
    world = PipelineWorld(at.means.connection, pipeline)
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
            if one.pipeline == pipeline and machine_of(one) not in kept:
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
