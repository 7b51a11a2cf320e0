"""Remove a service: nobody reaches it from then on, and all that Mizzen made for it ends."""

from __future__ import annotations

from mizzen.model.errors import Failure
from mizzen.model.service import Release, ReleaseState, Service, ServiceReport, Steps, Underway
from mizzen.store import services as store
from mizzen.store.database import transaction

from . import claims
from .retire import retire
from .starter import Means

NUMBER = 0
"""What stands for a release's number where a service is removed."""


async def remove(means: Means, name: str) -> ServiceReport:
    """Unpublish a service, drain and stop its releases, and forget it.

    Raises Failure if there is none of that name, or if somebody rolls it out.
    """
    with transaction(means.connection) as connection:
        service = store.find(connection, name)
        if service is None:
            raise Failure(
                f"cannot remove {name}", "there is no such service", "see: mizzen publish list"
            )
        held = claims.claim(connection, name, NUMBER)
    try:
        return await finish(means, service, held)
    except BaseException:
        claims.let_go(means.connection, [held])
        raise


async def finish(means: Means, service: Service, held: Underway) -> ServiceReport:
    """Do a removal that has been claimed, from wherever an earlier one came to."""
    await means.network.unpublish(service.name)
    releases = store.releases(means.connection, service.name)
    old = [one for one in releases if one.state is not ReleaseState.RETIRED]
    retired = await retire(means, service, old, service.drain)
    for release in releases:
        if release.source and str(release) not in retired.left_running:
            await means.starter.remove(release)
    with transaction(means.connection) as connection:
        store.remove(connection, service.name)
    return ServiceReport(
        service=service.name,
        number=held.number,
        machine="",
        before=_last_live(releases),
        attempts=0,
        in_flight=retired.in_flight,
        drained=retired.drained,
        dropped=retired.dropped,
        left=retired.left,
        left_running=retired.left_running,
        steps=Steps(drain=retired.drain_seconds, retire=retired.retire_seconds),
    )


def _last_live(releases: list[Release]) -> int:
    return max((one.number for one in releases if one.state is ReleaseState.LIVE), default=0)
