"""The end of releases that are live no more: drain their connections, then stop them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mizzen.model.network import Publication
from mizzen.model.progress import Progress
from mizzen.model.service import Release, ReleaseState, Service
from mizzen.store import services as store

from . import routes
from .starter import Means

GRACE = 10.0
"""Seconds that a release has to end by itself once its connections have."""


@dataclass(frozen=True, slots=True)
class Retired:
    """How releases ended; the fields are those of ``ServiceReport``."""

    in_flight: int = 0
    drained: int = 0
    dropped: int = 0
    left: int = 0
    left_running: tuple[str, ...] = ()
    drain_seconds: float = 0.0
    retire_seconds: float = 0.0


async def retire(means: Means, service: Service, old: list[Release], seconds: float) -> Retired:
    """Drain and stop releases of one service, which nobody new reaches.

    seconds: until their connections are given up. Raises Failure.
    """
    if not old:
        return Retired()
    begun = time.monotonic()
    in_flight, still_open = await _drain(means, service, old, seconds)
    drained_at = time.monotonic()
    published = await publications(means)
    running = [release for release in old if not _may_stop(release, published)]
    stopped = [release for release in old if release not in running]
    for release in stopped:
        task = Progress(f"Stopping {release}")
        means.report(task)
        await means.starter.stop(release, GRACE)
        means.report(replace(task, finished=True))
    for release in old:
        store.save_release(means.connection, replace(release, state=ReleaseState.RETIRED))
    return Retired(
        in_flight=in_flight,
        drained=in_flight - still_open,
        dropped=still_open if not running else 0,
        left=still_open if running else 0,
        left_running=tuple(release.machine or release.addresses[0] for release in running),
        drain_seconds=drained_at - begun,
        retire_seconds=time.monotonic() - drained_at,
    )


async def publications(means: Means) -> dict[str, Publication]:
    """Return all that is published, by name."""
    return {one.name: one async for one in means.network.publications()}


def _may_stop(release: Release, published: Mapping[str, Publication]) -> bool:
    """Whether Mizzen started it, and no service, such as another one, leads to it."""
    in_use = any(routes.uses(one, release) for one in published.values())
    return bool(release.source) and not in_use


async def _drain(
    means: Means, service: Service, old: list[Release], seconds: float
) -> tuple[int, int]:
    """Return how many connections were open at first, and how many still are."""
    targets = sorted({at for release in old for at in routes.endpoints(service, release)})
    if not targets:
        return 0, 0
    names = ", ".join(str(release) for release in old)
    task = Progress(f"Draining {names}")
    first: int | None = None
    last = 0
    async for seen in means.network.drain(targets, seconds):
        first = seen.open if first is None else max(first, seen.open)
        last = seen.open
        means.report(replace(task, done=first - last, total=first))
    means.report(replace(task, finished=True))
    return first or 0, last


async def retire_all(
    means: Means, parts: list[tuple[Service, list[Release], float]]
) -> list[Retired]:
    """Do ``retire`` for several services at the same time, and return what each came to."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(retire(means, service, old, seconds))
            for service, old, seconds in parts
        ]
    return [task.result() for task in tasks]
