"""What the network is at present, and the part of it that a change concerns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from mizzen.model.errors import Failure
from mizzen.model.network import Edge, Forward, Link, Publication, Transport

from .plane import Parts

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class State:
    """Links, publications and edges, found by whatever a request names."""

    def __init__(self, everything: Parts) -> None:
        self.links: dict[str, Link] = {}
        self.publications: dict[str, Publication] = {}
        self.edges: set[Edge] = set()
        self._by_address: dict[str, Link] = {}
        self._by_label: dict[str, dict[str, Link]] = {}
        self._edges_of: dict[str, set[Edge]] = {}
        self._published: dict[tuple[int, int, Transport], dict[str, str]] = {}
        self._targets: dict[str, set[str]] = {}
        self.replace(Parts(), everything)

    def replace(self, before: Parts, after: Parts) -> None:
        """Take out what was before, and put in what is after."""
        for link in before.links:
            self._remove_link(link)
        for publication in before.publications:
            self._remove_publication(publication)
        for edge in before.edges:
            self._remove_edge(edge)
        for link in after.links:
            self.links[link.machine] = link
            self._by_label.setdefault(link.label, {})[link.machine] = link
            self._by_address.update(dict.fromkeys(link.addresses, link))
        for publication in after.publications:
            self.publications[publication.name] = publication
            for forward in publication.forwards:
                self._published.setdefault(_key(forward), {})[forward.address] = publication.name
                self._targets.setdefault(forward.target, set()).add(publication.name)
        for edge in after.edges:
            self.edges.add(edge)
            for label in {edge.source, edge.target}:
                self._edges_of.setdefault(label, set()).add(edge)

    def _remove_link(self, link: Link) -> None:
        del self.links[link.machine]
        _drop(self._by_label, link.label, link.machine)
        for address in link.addresses:
            del self._by_address[address]

    def _remove_publication(self, publication: Publication) -> None:
        del self.publications[publication.name]
        for forward in publication.forwards:
            _drop(self._published, _key(forward), forward.address)
        for target in {forward.target for forward in publication.forwards}:
            self._targets[target].remove(publication.name)
            if not self._targets[target]:
                del self._targets[target]

    def _remove_edge(self, edge: Edge) -> None:
        self.edges.remove(edge)
        for label in {edge.source, edge.target}:
            self._edges_of[label].remove(edge)
            if not self._edges_of[label]:
                del self._edges_of[label]

    def link_at(self, address: str) -> Link | None:
        """Return the link that has an address."""
        return self._by_address.get(address)

    def leading_to(self, addresses: Iterable[str]) -> list[str]:
        """Return the names of publications that lead to any of these addresses."""
        return sorted(set().union(*(self._targets.get(one, ()) for one in addresses)))

    def is_forwarded(self, forward: Forward) -> bool:
        """Tell whether its port of the same address of the host leads somewhere already."""
        return forward.address in self._published.get(_key(forward), {})

    def around_link(self, before: Link | None, after: Link | None) -> tuple[Parts, Parts]:
        """Return what a link's coming, changing or going concerns, before it and after."""
        own = [link for link in (before, after) if link is not None]
        edges = {edge for link in own for edge in self._edges_of.get(link.label, ())}
        labels = {label for edge in edges for label in (edge.source, edge.target)}
        others = self._labelled(labels, but={link.machine for link in own})
        ordered = tuple(sorted(edges, key=edge_order))
        return (
            Parts(links=(*others, *own[:1]) if before else others, edges=ordered),
            Parts(links=(*others, after) if after else others, edges=ordered),
        )

    def around_edge(self, edge: Edge, *, there: bool) -> tuple[Parts, Parts]:
        """Return what an edge's coming (or going, if not there) concerns, before it and after."""
        links = self._labelled({edge.source, edge.target}, but=set())
        without, within = Parts(links=links), Parts(links=links, edges=(edge,))
        return (without, within) if there else (within, without)

    def _labelled(self, labels: set[str], but: set[str]) -> tuple[Link, ...]:
        found = (link for label in labels for link in self._by_label.get(label, {}).values())
        return tuple(
            sorted((one for one in found if one.machine not in but), key=lambda one: one.number)
        )

    def check_free(self, publications: Iterable[Publication]) -> None:
        """Raise Failure if ports of these publications are others', or one is there twice.

        A port of each address that the host has is the same as that port of one of them.
        """
        wanted = tuple(publications)
        replaced = {one.name for one in wanted}
        taken: dict[tuple[int, int, Transport], dict[str, str]] = {}
        for publication in wanted:
            for forward in publication.forwards:
                key = _key(forward)
                others = {
                    address: name
                    for address, name in self._published.get(key, {}).items()
                    if name not in replaced
                }
                mine = taken.setdefault(key, {})
                for address, name in (others | mine).items():
                    if address == forward.address or not address or not forward.address:
                        raise _conflict(publication.name, forward, name)
                mine[forward.address] = publication.name


def edge_order(edge: Edge) -> tuple[str, str, str, int]:
    """Return what edges are listed by."""
    return edge.source, edge.target, edge.transport, edge.port


def _conflict(name: str, forward: Forward, holder: str) -> Failure:
    what = f"cannot publish {name}"
    if holder == name:
        return Failure(what, f"port {forward} is there twice", "name each port once")
    return Failure(
        what,
        f"port {forward} is published by {holder}",
        f"choose another port, or: mizzen publish remove {holder}",
    )


def _key(forward: Forward) -> tuple[int, int, Transport]:
    return forward.version, forward.port, forward.transport


def _drop(index: dict[KeyT, dict[str, ValueT]], key: KeyT, name: str) -> None:
    del index[key][name]
    if not index[key]:
        del index[key]
