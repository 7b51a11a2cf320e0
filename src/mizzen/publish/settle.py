"""Bring rollouts to their end whose process was killed, or was interrupted after the switch.

What the network daemon publishes decides: a release that it leads to is live.
"""

from __future__ import annotations

import time
from dataclasses import replace

from mizzen.model.service import Release, ReleaseState, Service, Underway
from mizzen.store import services as store
from mizzen.store.database import transaction

from . import claims, remove, routes
from .retire import publications, retire
from .starter import Means

KILLED = "the command that rolled it out was killed"


async def settle(means: Means) -> None:
    """Settle every rollout that nobody does. Raises Failure if the daemon cannot be asked."""
    for held in store.underway(means.connection):
        with transaction(means.connection) as connection:
            mine = claims.take_over(connection, held)
        if mine is None:
            continue
        try:
            await _settle(means, mine)
        except BaseException:
            claims.let_go(means.connection, [mine])
            raise


async def _settle(means: Means, held: Underway) -> None:
    service = store.find(means.connection, held.service)
    if service is not None and held.number == remove.NUMBER:
        await remove.finish(means, service, held)
        return
    new = store.find_release(means.connection, held.service, held.number)
    if service is not None and new is not None:
        published = (await publications(means)).get(service.name)
        if routes.leads_to(published, service, new):
            old, since = _switched(means, service, new)
            left = max(0.0, service.drain - max(0.0, time.time() - since))
            await retire(means, service, old, left)
        elif new.state is ReleaseState.STARTING:
            failed = replace(new, state=ReleaseState.FAILED, reason=KILLED)
            store.save_release(means.connection, failed)
    store.conclude(means.connection, [held.service])


def _switched(means: Means, service: Service, new: Release) -> tuple[list[Release], float]:
    """Write what a switch makes of the releases; return the old ones, and when it was."""
    since = new.live_since or time.time()
    old = []
    with transaction(means.connection) as connection:
        store.save_release(connection, replace(new, state=ReleaseState.LIVE, live_since=since))
        for release in store.releases(connection, service.name):
            served = release.state in {ReleaseState.LIVE, ReleaseState.DRAINING}
            if served and release.number != new.number:
                old.append(replace(release, state=ReleaseState.DRAINING))
                store.save_release(connection, old[-1])
    return old, since
