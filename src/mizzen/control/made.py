"""What a pipeline has made and is there still, and what of it may go with the pipeline: pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mizzen.model.job import Outcome
from mizzen.model.machine import Machine
from mizzen.model.network import Publication
from mizzen.model.service import Release

from . import deploy, dispose, links, stage
from .collect import Item, Kind, Plan, planned


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
        if name := machine_of(one):
            found[name].add(one.pipeline)
    return found


def machine_of(known: Outcome) -> str:
    """Return the name of the machine that an outcome is about, "" if it is about none."""
    if known.operation == deploy.LEASED:
        return deploy.address_machine(known.key)
    return known.key if known.operation == deploy.DEPLOYED else ""
