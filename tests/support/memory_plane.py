"""What carries packets, as far as the daemon can tell: kept in memory, and made to fail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Edge, Forward, Link, Publication
from mizzen.network.plane import Parts
from mizzen.network.protocol import Draining

FAILURE = Failure("cannot change the rules", "the test says so", "change the test")


class MemoryPlane:
    """Checks that each change begins with what is there, and remembers what was done."""

    def __init__(self, mode: str = "kernel") -> None:
        self.mode = mode
        self.links: dict[int, Link] = {}
        self.publications: dict[str, Publication] = {}
        self.edges: set[Edge] = set()
        self.interfaces: set[str] = set()
        self.changes: list[tuple[Parts, Parts]] = []
        self.forgotten: list[tuple[str, ...]] = []
        self.cells: list[Cell] = []
        self.listeners: dict[int, str] = {}
        self.failing: dict[str, BaseException] = {}
        self.open = 0
        self.counted = asyncio.Event()
        self.closed = False

    @property
    def carried(self) -> Parts:
        return Parts(
            tuple(self.links[number] for number in sorted(self.links)),
            tuple(self.publications[name] for name in sorted(self.publications)),
            tuple(sorted(self.edges, key=str)),
        )

    def _may(self, what: str) -> None:
        if what in self.failing:
            raise self.failing[what]

    async def begin(self, everything: Parts) -> None:
        self._may("begin")
        self.links, self.publications, self.edges = {}, {}, set()
        self._replace(Parts(), everything)

    async def change(self, before: Parts, after: Parts) -> None:
        self._may("change")
        self.changes.append((before, after))
        self._replace(before, after)

    def _replace(self, before: Parts, after: Parts) -> None:
        for link in before.links:
            assert self.links.pop(link.number) == link
        for publication in before.publications:
            assert self.publications.pop(publication.name) == publication
        for edge in before.edges:
            self.edges.remove(edge)
        for link in after.links:
            assert link.number not in self.links
            self.links[link.number] = link
        for publication in after.publications:
            assert publication.name not in self.publications
            self.publications[publication.name] = publication
        self.edges |= set(after.edges)

    async def open_link(self, link: Link, namespace: int | None) -> int | None:
        assert self.links[link.number] == link
        self.interfaces.discard(link.interface)
        self._may("open_link")
        self.interfaces.add(link.interface)
        return None if namespace is not None else _descriptor()

    async def close_link(self, link: Link) -> None:
        self._may("close_link")
        self.interfaces.discard(link.interface)

    async def open_cell(self, cell: Cell) -> int:
        self._may("open_cell")
        self.cells.append(cell)
        return _descriptor()

    async def up(self) -> frozenset[str]:
        return frozenset(self.interfaces)

    async def holder(self, forward: Forward) -> str:
        return self.listeners.get(forward.port, "")

    async def forget(self, addresses: tuple[str, ...]) -> None:
        self._may("forget")
        self.forgotten.append(addresses)

    async def drain(self, targets: tuple[str, ...], seconds: float) -> AsyncIterator[Draining]:
        while True:
            self.counted.clear()
            yield Draining(self.open, done=not self.open)
            if not self.open:
                return
            try:
                async with asyncio.timeout(seconds):
                    await self.counted.wait()
            except TimeoutError:
                yield Draining(self.open, done=True)
                return

    def count(self, number: int) -> None:
        self.open = number
        self.counted.set()

    async def removed(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


def _descriptor() -> int:
    """Return a descriptor of its own, as a tap's."""
    reading, writing = os.pipe()
    os.close(writing)
    return reading
