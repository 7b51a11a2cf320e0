"""Free what nothing refers to: machines, links, addresses, publications and built files."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from mizzen.builders import unused
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.network import Lease, Link, Publication
from mizzen.model.progress import Report
from mizzen.model.service import Release, ReleaseState
from mizzen.network.protocol import MACHINE_TAG
from mizzen.publish import routes
from mizzen.publish.retire import GRACE
from mizzen.publish.settle import settle
from mizzen.store import machines as machine_store
from mizzen.store import services as store
from mizzen.store.database import transaction

from . import deploy, engine_lock, images
from .publish import Setting, setting

DIGITS = 12
"""Of a digest, that tell files apart."""

KEPT_FOR = 24 * 3600.0
"""Seconds that a release which failed is kept for debugging."""

IN_USE = {
    ReleaseState.STARTING: "it is being rolled out",
    ReleaseState.LIVE: "it is live",
    ReleaseState.DRAINING: "it drains",
}


class Kind(StrEnum):
    """What can be freed, in the order that it is."""

    SERVICE = "service"
    PUBLICATION = "publication"
    EDGE = "edge"
    MACHINE = "machine"
    LINK = "link"
    ADDRESSES = "addresses"
    BUILT = "built"


@dataclass(frozen=True, slots=True)
class Item:
    """Something to free or to keep. why: in a few words.

    name: a service's, a machine's, what an edge is set under (``dispose.edge_key``), or the
        beginning of a built file's digest.
    """

    kind: Kind
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to free, and what stays of that which could be thought to be left over."""

    free: tuple[Item, ...]
    keep: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All there is.

    machines: names; of them, releases are those that Mizzen started itself, and piped are those
    that pipelines have, some of which may not be started yet.
    """

    services: frozenset[str]
    releases: tuple[Release, ...]
    machines: frozenset[str]
    piped: frozenset[str]
    publications: tuple[Publication, ...]
    links: tuple[Link, ...]
    leases: tuple[Lease, ...]
    now: float


async def collect(folders: Folders, report: Report, *, dry_run: bool) -> Plan:
    """Free what nothing refers to, unless dry_run; return what that is, and what stays.

    What is live, drains or is being rolled out stays, and what was made by hand. Raises Failure.
    """
    async with setting(folders, report) as at:
        if at.mode.kernel and os.geteuid() != 0:
            raise Failure(
                "cannot collect",
                "the network daemon serves every user, and you may know your own machines only",
                "run it with sudo",
            )
        if not dry_run:
            await settle(at.means)
        plan = decide(await _facts(at))
        for item in () if dry_run else plan.free:
            await _free(at, item)
        built = planned([one async for one in _built(at, dry_run=dry_run)])
        return Plan((*plan.free, *built.free), (*plan.keep, *built.keep))


def decide(facts: Facts) -> Plan:
    """Return what to free and what to keep: pure."""
    judged = [*_publications(facts), *_machines(facts)]
    gone = {item.name for free, item in judged if free and item.kind is Kind.MACHINE}
    held = _held(facts)
    judged += _links(facts, held)
    judged += _leases(facts, held, gone)
    return planned(judged)


def planned(judged: Sequence[tuple[bool, Item]]) -> Plan:
    """Return a plan of things, each with whether it is to be freed."""
    return Plan(
        tuple(item for free, item in judged if free),
        tuple(item for free, item in judged if not free),
    )


def _publications(facts: Facts) -> Iterable[tuple[bool, Item]]:
    for one in facts.publications:
        known = one.name in facts.services
        why = "it is a service's" if known else "there is no service of that name"
        yield not known, Item(Kind.PUBLICATION, one.name, why)


def _machines(facts: Facts) -> Iterable[tuple[bool, Item]]:
    """Judge machines; a service's own are the only ones that may go."""
    own = {one.machine: one for one in facts.releases if one.source}
    for name in sorted(facts.machines):
        release = own.get(name)
        if release is None:
            why = "it is a pipeline's" if name in facts.piped else "it was made by hand"
            yield False, Item(Kind.MACHINE, name, why)
            continue
        published = [one.name for one in facts.publications if routes.uses(one, release)]
        left = release.created + KEPT_FOR - facts.now
        if published:
            free, why = False, f"{', '.join(published)} leads to it"
        elif release.state in IN_USE:
            free, why = False, IN_USE[release.state]
        elif release.state is ReleaseState.FAILED and left > 0:
            free, why = False, f"it failed, and is kept {left / 3600:.0f} h more"
        else:
            free, why = True, f"its release is {release.state}"
        yield free, Item(Kind.MACHINE, name, why)


def _held(facts: Facts) -> Mapping[str, str]:
    """Return why addresses cannot go that are in use, whoever has them."""
    held = {
        address: IN_USE[release.state]
        for release in facts.releases
        if release.state in IN_USE
        for address in release.addresses
    }
    for one in facts.publications:
        if one.name in facts.services:
            held |= {forward.target: f"{one.name} leads to it" for forward in one.forwards}
    return held


def _links(facts: Facts, held: Mapping[str, str]) -> Iterable[tuple[bool, Item]]:
    for link in facts.links:
        if link.machine in facts.machines | facts.piped:
            continue  # it goes or stays with its machine
        why = _used(link.addresses, held)
        yield not why, Item(Kind.LINK, link.machine, why or "its machine is gone")


def _leases(facts: Facts, held: Mapping[str, str], gone: set[str]) -> Iterable[tuple[bool, Item]]:
    tags: dict[str, list[str]] = {}
    for lease in facts.leases:
        if lease.tag.startswith(MACHINE_TAG):
            tags.setdefault(lease.tag.removeprefix(MACHINE_TAG), []).append(lease.address)
    others = len(facts.leases) - sum(map(len, tags.values()))
    if others:
        yield False, Item(Kind.ADDRESSES, f"{others} others", "they were requested by hand")
    for name, addresses in sorted(tags.items()):
        if name in facts.piped:
            yield False, Item(Kind.ADDRESSES, name, "they are a pipeline's")
        elif name not in facts.machines:
            why = _used(addresses, held)
            yield not why, Item(Kind.ADDRESSES, name, why or "their machine is gone")
        elif name not in gone:
            yield False, Item(Kind.ADDRESSES, name, "their machine is there")


def _used(addresses: Sequence[str], held: Mapping[str, str]) -> str:
    return next((held[address] for address in addresses if address in held), "")


async def _built(at: Setting, *, dry_run: bool) -> AsyncIterator[tuple[bool, Item]]:
    """Remove built files that nothing boots, unless dry_run; yield what may go or went."""
    connection, now = at.means.connection, time.time()
    with engine_lock.tried(at.folders) as alone:
        if alone and not dry_run:
            needed = partial(images.booted, connection)
            async for one, gone, why in images.dispose(at.folders, needed, now):
                yield gone, Item(Kind.BUILT, one.digest[:DIGITS], why)
            return
        everything = unused.everything(at.folders)
        for one, why in images.left_over(everything, images.booted(connection), now):
            told = why if alone else "publish.collect of the mizzen up that runs judges it"
            yield alone, Item(Kind.BUILT, one.digest[:DIGITS], told)


async def _facts(at: Setting) -> Facts:
    """Look at everything: first at the daemon's, since machines are recorded before their links."""
    network, connection = at.means.network, at.means.connection
    user = not at.mode.kernel
    leases = () if user else tuple([one async for one in network.addresses()])
    links = () if user else tuple([link async for link, _ in network.links()])
    publications = tuple([one async for one in network.publications()])
    services = store.everything(connection)
    return Facts(
        services=frozenset(service.name for service in services),
        releases=tuple(store.all_releases(connection)),
        machines=frozenset(one.spec.name for one in machine_store.everything(connection)),
        piped=deploy.piped(connection),
        publications=publications,
        links=links,
        leases=leases,
        now=time.time(),
    )


async def _free(at: Setting, item: Item) -> None:
    """Free one thing. What has come to be in use since the look at it stays."""
    connection, network = at.means.connection, at.means.network
    if item.kind is Kind.MACHINE:
        for service in store.everything(connection):
            for release in store.releases(connection, service.name):
                if release.source and release.machine == item.name:
                    await at.means.starter.stop(release, GRACE)
                    await at.means.starter.remove(release)
        return
    # Whoever starts a machine or adds a service writes that first, and waits for this.
    with transaction(connection):
        if item.kind is Kind.PUBLICATION:
            if store.find(connection, item.name) is None:
                await network.unpublish(item.name)
        elif machine_store.find(connection, item.name) is None:
            if item.kind is Kind.LINK:
                await network.close_link(item.name)
            else:
                await network.release_address(MACHINE_TAG + item.name)
