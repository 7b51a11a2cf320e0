"""Do what is asked: in the database, in what carries packets, and in memory, or in none of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Edge, Link, Publication
from mizzen.store import network as store
from mizzen.store.database import transaction

from . import checks, protocol
from .addresses import Addresses, read_prefix, shortened
from .plane import Parts, Plane
from .protocol import MACHINE_TAG
from .state import State, edge_order

log = logging.getLogger(__name__)

LINK_TIME = 10.0
"""Seconds that making a cell, and making or removing a link's interfaces, may take."""

PAGE_BYTES = protocol.MESSAGE_MAX - (4 << 10)
"""Of entries in one reply that lists, which leaves room for what is around them."""

ValueT = TypeVar("ValueT")


class Broken(Exception):  # noqa: N818 - as Failure
    """What carries packets may differ from the database: only a new start puts that right."""


@dataclass(frozen=True, slots=True)
class _Making:
    """A link whose interfaces are to be made, and where the machine's end goes."""

    link: Link
    namespace: int | None


class Keeper:
    """The daemon's state and what is done to it, one change at a time."""

    def __init__(self, connection: sqlite3.Connection, plane: Plane, version: str = "") -> None:
        """Read the state; ``begin`` comes next. Raises Failure if it cannot be read.

        version: of Mizzen, as it is told to who asks.
        """
        self._version = version
        self._connection = connection
        self._plane = plane
        self._addresses = Addresses(connection)
        try:
            everything = Parts(
                tuple(store.links(connection)),
                tuple(store.publications(connection)),
                tuple(store.edges(connection)),
            )
            self._state = State(everything)
        except (msgspec.MsgspecError, KeyError, ValueError) as error:
            raise Failure(
                "cannot read the network's database",
                f"it holds what no daemon wrote: {error}",
                "put back a copy of it, or move it away",
            ) from error

    async def begin(self) -> None:
        """Make what carries packets do what the database says. Raises Failure."""
        await self._plane.begin(self.everything())

    def everything(self) -> Parts:
        """Return all there is, in order."""
        state = self._state
        return Parts(
            tuple(sorted(state.links.values(), key=lambda link: link.number)),
            tuple(state.publications[name] for name in sorted(state.publications)),
            tuple(sorted(state.edges, key=edge_order)),
        )

    async def answer(
        self, request: protocol.AnyRequest, namespace: int | None
    ) -> tuple[protocol.AnyReply, int | None]:
        """Do what a request asks and return the reply, with a descriptor that the caller owns.

        Not for ``Drain`` and ``OpenCell``, see ``drain`` and ``open_cell``. One at a time, and
        never cancelled: what was begun is brought to an end. namespace: a descriptor that came
        with the request, the caller's. Raises Failure; then nothing has changed. Raises Broken.
        """
        match request:
            case protocol.OpenLink():
                return await self._open_link(request, namespace)
            case protocol.CloseLink(machine):
                await self._close_link(machine)
            case protocol.Publish(publications, expect):
                await self._publish(publications, expect)
            case protocol.Unpublish(names):
                await self._unpublish(names)
            case protocol.AllowEdge(edge):
                await self._edge(edge, there=True)
            case protocol.DenyEdge(edge):
                await self._edge(edge, there=False)
            case protocol.RequestAddress(tag, prefix, exclude):
                self._need_kernel("give an address")
                with transaction(self._connection):
                    lease = self._addresses.request(tag, prefix, exclude)
                return protocol.Leased(lease), None
            case protocol.ReleaseAddress(tag, prefix):
                self._release(tag, prefix)
            case _:
                return await self._tell(request), None
        return protocol.Done(), None

    def drain(self, request: protocol.Drain) -> AsyncIterator[protocol.Draining]:
        """Yield how many connections to targets are open. Raises Failure."""
        targets = checks.check_targets(request.targets, request.seconds)
        return self._plane.drain(targets, request.seconds)

    async def open_cell(self, cell: Cell) -> int:
        """Make a cell and return its tap's descriptor; at any time, as it changes no state.

        Raises Failure.
        """
        what = "cannot open a cell"
        self._need_kernel("open a cell")
        checked = checks.check_cell(cell)
        with _timely(what):
            async with asyncio.timeout(LINK_TIME):
                return await self._plane.open_cell(checked)

    async def _tell(self, request: protocol.AnyRequest) -> protocol.AnyReply:
        """Answer what changes nothing."""
        state = self._state
        match request:
            case protocol.ListAddresses(after):
                leases = self._addresses.page(after, protocol.PAGE_MAX)
                return protocol.Leases(_fitting(leases))
            case protocol.ListLinks(number):
                up = await self._plane.up()
                links = [one for one in self.everything().links if one.number > number]
                page = _fitting(links)
                return protocol.Links(page, tuple(one.interface in up for one in page))
            case protocol.ListPublications(after):
                names = sorted(name for name in state.publications if name > after)
                page_names = names[: protocol.PAGE_MAX]
                return protocol.Publications(
                    _fitting([state.publications[name] for name in page_names])
                )
            case protocol.ListEdges(last):
                start = edge_order(last) if last is not None else ("", "", "", 0)
                edges = [one for one in state.edges if edge_order(one) > start]
                return protocol.Edges(_fitting(sorted(edges, key=edge_order)))
            case _:
                return protocol.Status(
                    self._plane.mode,
                    self._version,
                    self._addresses.count(),
                    len(state.links),
                    len(state.publications),
                    len(state.edges),
                )

    def _need_kernel(self, what: str) -> None:
        if self._plane.mode != "kernel":
            raise Failure(
                f"cannot {what}",
                "the network daemon runs without root, on QEMU's user networking",
                "run: sudo mizzen net daemon",
            )

    def _release(self, tag: str, prefix: str) -> None:
        released = {lease.address for lease in self._addresses.held(tag, prefix)}
        link = self._state.links.get(tag.removeprefix(MACHINE_TAG))
        if link is not None and tag == MACHINE_TAG + link.machine:
            kept = released.intersection(link.addresses)
            if kept:
                raise Failure(
                    f"cannot release {' and '.join(sorted(kept))}",
                    f"machine {link.machine} has a link with it",
                    f"remove the machine first: mizzen machines remove {link.machine}",
                )
        with transaction(self._connection):
            self._addresses.release(tag, prefix)

    async def _open_link(
        self, request: protocol.OpenLink, namespace: int | None
    ) -> tuple[protocol.Opened, int | None]:
        what = f"cannot open a link of {request.machine}"
        self._need_kernel("open a link")
        checks.check_name(request.machine, "cannot open a link")
        label = checks.check_name(request.label or request.machine, what)
        old = self._state.links.get(request.machine)
        number = old.number if old else store.next_number(self._connection)
        link = self._new_link(number, request.machine, label, outward=request.outward, what=what)
        if old is not None and (lost := set(old.addresses) - set(link.addresses)):
            self._refuse_published(lost, what)
        before, after = self._state.around_link(old, link)
        descriptor = await self._change(
            before,
            after,
            lambda: store.save_link(self._connection, link),
            _Making(link, namespace),
        )
        return protocol.Opened(link), descriptor

    def _new_link(self, number: int, machine: str, label: str, *, outward: bool, what: str) -> Link:
        leases = self._addresses.held(MACHINE_TAG + machine)
        prefixes = [read_prefix(lease.prefix) for lease in leases]
        hint = f"mizzen ip request --tag {MACHINE_TAG}{machine} --prefix PREFIX"
        if not leases:
            raise Failure(what, f"no address has the tag {MACHINE_TAG}{machine}", f"run: {hint}")
        families = [prefix.family for prefix in prefixes]
        for family in families:
            if families.count(family) > 1:
                held = ", ".join(lease.address for lease in leases)
                raise Failure(
                    what,
                    f"its tag has more than one IPv{family} address ({held})",
                    f"release one: mizzen ip release {MACHINE_TAG}{machine} --prefix PREFIX",
                )
        return Link(
            number=number,
            machine=machine,
            label=label,
            addresses=tuple(lease.address for lease in leases),
            gateways=tuple(prefix.gateway_address for prefix in prefixes),
            mac=mac_of(number),
            outward=outward,
        )

    async def _close_link(self, machine: str) -> None:
        link = self._state.links.get(machine)
        if link is None:
            return
        self._refuse_published(link.addresses, f"cannot close the link of {machine}")
        before, after = self._state.around_link(link, None)
        # Until the rules change, its interface is gone and nobody else has its addresses.
        with _timely(f"cannot close the link of {machine}"):
            async with asyncio.timeout(LINK_TIME):
                await self._plane.close_link(link)
        await self._change(before, after, lambda: store.remove_link(self._connection, link.number))
        try:
            await self._plane.forget(link.addresses)
        except Failure as failure:  # whoever has the addresses next is cleared before
            log.warning("%s", failure)

    def _refuse_published(self, addresses: Iterable[str], what: str) -> None:
        names = self._state.leading_to(addresses)
        if names:
            raise Failure(
                what,
                f"published ports of {', '.join(names[:3])} lead to it",
                f"take them away first: mizzen publish remove {names[0]}",
            )

    async def _publish(
        self,
        publications: Sequence[Publication],
        expect: Mapping[str, Publication | None],
    ) -> None:
        wanted = checks.check_publications(publications)
        state = self._state
        changed = tuple(one for one in wanted if state.publications.get(one.name) != one)
        if not changed:
            return
        for name, publication in expect.items():
            meant = checks.canonical(publication) if publication is not None else None
            if state.publications.get(name) != meant:
                raise Failure(
                    f"cannot publish {', '.join(one.name for one in wanted[:3])}",
                    f"{shortened(name)} is not what it was: somebody else has changed it",
                    "look at it and try again: mizzen publish list",
                )
        state.check_free(changed)
        for one in changed:
            await self._check_forwards(one)
        old = tuple(
            state.publications[one.name] for one in changed if one.name in state.publications
        )
        await self._change(
            Parts(publications=old),
            Parts(publications=changed),
            lambda: store.save_publications(self._connection, changed),
        )

    async def _check_forwards(self, publication: Publication) -> None:
        """Raise Failure for targets that are no machine's, and ports that a process has."""
        what = f"cannot publish {publication.name}"
        for forward in publication.forwards:
            if self._plane.mode == "kernel" and self._state.link_at(forward.target) is None:
                raise Failure(
                    what,
                    f"{forward.target} is no machine's address",
                    "start the machine with an address first; see: mizzen net links",
                )
            owner = self._state.link_at(forward.address)
            if owner is not None:
                raise Failure(
                    what,
                    f"{forward.address} is the address of machine {owner.machine}",
                    "give an address of this host, or none for each it has",
                )
            if self._state.is_forwarded(forward):
                continue
            holder = await self._plane.holder(forward)
            if holder:
                raise Failure(
                    what,
                    f"port {forward} is taken by {holder}",
                    "choose another port, or stop that",
                )

    async def _unpublish(self, names: Iterable[str]) -> None:
        there = tuple(
            self._state.publications[name]
            for name in sorted(set(names))
            if name in self._state.publications
        )
        if there:
            await self._change(
                Parts(publications=there),
                Parts(),
                lambda: store.remove_publications(self._connection, [one.name for one in there]),
            )

    async def _edge(self, edge: Edge, *, there: bool) -> None:
        checks.check_edge(edge)
        self._need_kernel("change an edge")
        if (edge in self._state.edges) is there:
            return
        before, after = self._state.around_edge(edge, there=there)
        write = store.add_edge if there else store.remove_edge
        await self._change(before, after, lambda: write(self._connection, edge))

    async def _change(
        self,
        before: Parts,
        after: Parts,
        write: Callable[[], None],
        make: _Making | None = None,
    ) -> int | None:
        """Change database, packets and memory, all or none. Return the tap of a link to make."""
        changed, descriptor = False, None
        try:
            with transaction(self._connection):
                write()
                await self._plane.change(before, after)
                changed = True
                if make is not None:
                    descriptor = await self._make(make)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            if changed:
                await self._undo(before, after, make)
            raise
        self._state.replace(before, after)
        return descriptor

    async def _make(self, make: _Making) -> int | None:
        with _timely(f"cannot open a link of {make.link.machine}"):
            async with asyncio.timeout(LINK_TIME):
                await self._plane.forget(make.link.addresses)
                return await self._plane.open_link(make.link, make.namespace)

    async def _undo(self, before: Parts, after: Parts, make: _Making | None) -> None:
        try:
            if make is not None:
                await self._plane.close_link(make.link)
            await self._plane.change(after, before)
        except Exception as error:
            raise Broken("a change that failed could not be taken back") from error


@contextlib.contextmanager
def _timely(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Failure(
            what, f"the kernel has not done it within {LINK_TIME:g} s", "try again"
        ) from error


def mac_of(number: int) -> str:
    """Return the MAC address of a machine's end of a link: locally administered, one host."""
    digits = f"{number:08x}"
    return ":".join(["02", "4d", *(digits[at : at + 2] for at in range(0, 8, 2))])


def _fitting(entries: Sequence[ValueT]) -> tuple[ValueT, ...]:
    """Return as many entries from the first on as go into one reply."""
    room = PAGE_BYTES
    for count, entry in enumerate(entries[: protocol.PAGE_MAX]):
        room -= len(msgspec.json.encode(entry)) + 1
        if room < 0:
            return tuple(entries[:count])
    return tuple(entries[: protocol.PAGE_MAX])
