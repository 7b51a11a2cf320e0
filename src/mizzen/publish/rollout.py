"""Roll out releases of one service, or of several that switch as one.

New releases are started and probed while the old ones serve; then all publications lead to the new
ones in one transaction of the network daemon; then the old ones' connections end and they are
stopped. Up to the switch, whatever goes wrong leaves what was live as it was. Every step is in the
database before it is done, so that ``settle`` brings a rollout to its end whose process was killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from mizzen.model.errors import Failure
from mizzen.model.network import Publication
from mizzen.model.progress import Progress
from mizzen.model.service import (
    Release,
    ReleaseState,
    RolloutReport,
    Service,
    ServiceReport,
    Steps,
    Underway,
)
from mizzen.store import services as store
from mizzen.store.database import transaction

from . import claims, probe, routes
from .retire import GRACE, Retired, publications, retire_all
from .starter import Means

INTERRUPTED = "its rollout was interrupted"
"""The reason of a release that failed for nothing that is its own."""

SERVED = (ReleaseState.LIVE, ReleaseState.DRAINING)


@dataclass(slots=True)
class _Part:
    """One service of a rollout, as far as that has come; seconds of the steps that are done."""

    service: Service
    release: Release
    claim: Underway
    published: Publication | None = None
    live: Release | None = None
    old: list[Release] = field(default_factory=list)
    attempts: int = 0
    start: float = 0.0
    probe: float = 0.0


class _BrokenError(Exception):
    """A part whose step failed; the reason is its cause."""

    def __init__(self, part: _Part) -> None:
        super().__init__(part.service.name)
        self.part = part


class _UndecidedError(Exception):
    """What is live now cannot be told or written; the reason is its cause."""


async def roll_out(means: Means, wanted: Sequence[tuple[Service, Release]]) -> RolloutReport:
    """Make new releases live, all at one instant, and retire those that were.

    wanted: each service with its new release, of number 0.
    Raises Failure if somebody else is rolling a service out, or if any release does not start or
    get ready; then what was live stays so, and the new releases stay for debugging. Cancelled
    before the switch, it stops the new releases; after it, the switch stands, and ``settle`` does
    what is left.
    """
    begun = time.monotonic()
    await _check(means, wanted)
    parts = _record(means, wanted)
    held = [part.claim for part in parts]
    try:
        await _look(means, parts)
        await _each(means, parts, _start)
        await _each(means, parts, _probe)
        at = time.monotonic()
        interrupted = await _switch(means, parts)
        switch = time.monotonic() - at
    except _UndecidedError as error:
        claims.let_go(means.connection, held)
        raise error.__cause__ or error from None
    except _BrokenError as broken:
        raise _failed(means, parts, broken.part, broken.__cause__) from broken.__cause__
    except Exception as error:
        raise _failed(means, parts, parts[0], error) from error
    except asyncio.CancelledError:
        await _undo(means, parts)
        raise
    try:
        if interrupted:
            raise asyncio.CancelledError
        retired = await retire_all(
            means, [(part.service, part.old, part.service.drain) for part in parts]
        )
        store.conclude(means.connection, [part.service.name for part in parts])
    except BaseException:
        claims.let_go(means.connection, held)
        raise
    reports = (_report(*pair, switch) for pair in zip(parts, retired, strict=True))
    return RolloutReport(tuple(reports), time.monotonic() - begun)


def _record(means: Means, wanted: Sequence[tuple[Service, Release]]) -> list[_Part]:
    """Write the services and their new releases, and claim the rollout, all or nothing."""
    parts = []
    with transaction(means.connection) as connection:
        for service, wish in wanted:
            store.save(connection, service)
            release = store.add_release(connection, wish)
            claim = claims.claim(connection, service.name, release.number)
            parts.append(_Part(service, release, claim))
    return parts


async def _check(means: Means, wanted: Sequence[tuple[Service, Release]]) -> None:
    """Raise Failure for what can be told before anything is written and started."""
    published = await publications(means)
    for service, release in wanted:
        probe.check(service)
        routes.check_free(service, published)
        if routes.leads_to(published.get(service.name), service, release):
            raise Failure(
                f"cannot roll out {service.name}",
                f"{release.machine or release.addresses[0]} is live already",
                "name another target",
            )


async def _look(means: Means, parts: list[_Part]) -> None:
    """Find out what is live, and so what is to be retired."""
    published = await publications(means)
    for part in parts:
        part.published = published.get(part.service.name)
        known = store.releases(means.connection, part.service.name)
        part.live = routes.live(part.service, known, part.published)
        part.old = [
            one
            for one in known
            if one.number != part.release.number and (one.state in SERVED or one is part.live)
        ]


async def _each(
    means: Means, parts: list[_Part], work: Callable[[Means, _Part], Awaitable[None]]
) -> None:
    """Do a step for all parts at the same time; the first that fails ends it for the others."""

    async def one(part: _Part) -> None:
        try:
            await work(means, part)
        except Exception as error:
            raise _BrokenError(part) from error

    tasks = [asyncio.create_task(one(part)) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _start(means: Means, part: _Part) -> None:
    begun = time.monotonic()
    part.release = await means.starter.start(part.service, part.release)
    store.save_release(means.connection, part.release)
    routes.publication(part.service, part.release)  # what cannot be published is not probed
    part.start = time.monotonic() - begun


async def _probe(means: Means, part: _Part) -> None:
    begun = time.monotonic()
    task = Progress(f"Probing {part.release}", total=part.service.probe.attempts)
    means.report(task)
    part.attempts = await probe.ready(
        part.service,
        part.release,
        means.starter.ended,
        lambda attempts: means.report(replace(task, done=attempts)),
    )
    means.report(replace(task, finished=True))
    part.probe = time.monotonic() - begun


async def _switch(means: Means, parts: list[_Part]) -> bool:
    """Lead all publications to the new releases; return whether that was interrupted."""
    names = ", ".join(part.service.name for part in parts)
    task = Progress(f"Switching {names}")
    means.report(task)
    new = [routes.publication(part.service, part.release) for part in parts]
    expect = {part.service.name: part.published for part in parts}
    switching = asyncio.create_task(means.network.publish(new, expect))
    interrupted = await _waited(switching)
    if (error := switching.exception()) is not None:
        await _check_switched(means, new, error)
    try:
        _record_switch(means, parts)
    except Exception as unknown:
        raise _UndecidedError from unknown
    means.report(replace(task, finished=True))
    return interrupted


def _record_switch(means: Means, parts: list[_Part]) -> None:
    now = time.time()
    with transaction(means.connection) as connection:
        for part in parts:
            part.release = replace(part.release, state=ReleaseState.LIVE, live_since=now)
            part.old = [replace(old, state=ReleaseState.DRAINING) for old in part.old]
            for release in (part.release, *part.old):
                store.save_release(connection, release)


async def _waited(task: asyncio.Task[None]) -> bool:
    """Wait for a task to its end; return whether this one was cancelled meanwhile."""
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            interrupted = True
    return interrupted


async def _check_switched(means: Means, new: list[Publication], error: BaseException) -> None:
    """Return if the daemon has switched although its answer is missing; raise why not."""
    try:
        published = await publications(means)
    except Exception as unknown:
        raise _UndecidedError from unknown
    for one in new:
        there = published.get(one.name)
        if there is None or set(there.forwards) != set(one.forwards):
            raise error


def _failed(
    means: Means, parts: list[_Part], culprit: _Part, error: BaseException | None
) -> Failure:
    """Write that a rollout has failed, and return what the user is told."""
    reason = f"{error.what}: {error.why}" if isinstance(error, Failure) else str(error)
    others = f"{culprit.release}, which it was rolled out with, failed"
    with transaction(means.connection) as connection:
        for part in parts:
            why = reason if part is culprit else others
            part.release = replace(part.release, state=ReleaseState.FAILED, reason=why)
            store.save_release(connection, part.release)
        store.conclude(connection, [part.service.name for part in parts])
    stays = [str(part.live) for part in parts if part.live is not None]
    live = f"{', '.join(stays)} {'stays' if len(stays) == 1 else 'stay'} live; " if stays else ""
    names = ", ".join(part.service.name for part in parts)
    fix = means.starter.keep(culprit.release)
    if isinstance(error, Failure) and error.fix:
        fix = f"{error.fix}; {fix}" if fix else error.fix
    return Failure(f"cannot roll out {names}", reason, (live + fix).removesuffix("; "))


async def _undo(means: Means, parts: list[_Part]) -> None:
    """Stop new releases whose rollout was interrupted before it switched."""
    for part in parts:
        if part.release.source:
            await means.starter.stop(part.release, GRACE)
    with transaction(means.connection) as connection:
        for part in parts:
            failed = replace(part.release, state=ReleaseState.FAILED, reason=INTERRUPTED)
            store.save_release(connection, failed)
        store.conclude(connection, [part.service.name for part in parts])


def _report(part: _Part, retired: Retired, switch: float) -> ServiceReport:
    steps = Steps(part.start, part.probe, switch, retired.drain_seconds, retired.retire_seconds)
    return ServiceReport(
        service=part.service.name,
        number=part.release.number,
        machine=part.release.machine,
        before=part.live.number if part.live is not None else 0,
        attempts=part.attempts,
        in_flight=retired.in_flight,
        drained=retired.drained,
        dropped=retired.dropped,
        left=retired.left,
        left_running=retired.left_running,
        steps=steps,
    )
