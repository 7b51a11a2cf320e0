"""What carries packets as the daemon's state says: the kernel, or a relay without root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from mizzen.model.network import Cell, Edge, Forward, Link, Publication

from .protocol import Draining


@dataclass(frozen=True, slots=True)
class Parts:
    """Links, publications and edges: all there are, or those that a change is about.

    Edges mean what they say between the links beside them.
    """

    links: tuple[Link, ...] = ()
    publications: tuple[Publication, ...] = ()
    edges: tuple[Edge, ...] = ()


class Plane(Protocol):
    """Carries packets. What it is told is checked and consistent."""

    mode: str

    async def begin(self, everything: Parts) -> None:
        """Make it carry exactly this, whatever it carried before. Links that are not up stay so."""
        ...

    async def change(self, before: Parts, after: Parts) -> None:
        """Replace a part of what it carries at one instant.

        A Failure says that nothing has changed.
        """
        ...

    async def open_link(self, link: Link, namespace: int | None) -> int | None:
        """Make a link's interfaces anew and bring up the host's; ``change`` comes before.

        namespace: a descriptor of where the machine's end goes. Returns a tap's descriptor without.
        """
        ...

    async def close_link(self, link: Link) -> None:
        """Remove a link's interfaces, if there are any; ``change`` comes after."""
        ...

    async def open_cell(self, cell: Cell) -> int:
        """Make a cell, which is gone when its tap is closed. Returns the tap's descriptor.

        It has nothing to do with all the others, and may wait for what they need not.
        """
        ...

    async def up(self) -> frozenset[str]:
        """Return the names of the interfaces of links that are there."""
        ...

    async def holder(self, forward: Forward) -> str:
        """Say who listens at a forward's port on this host already, "" if nobody does."""
        ...

    async def forget(self, addresses: tuple[str, ...]) -> None:
        """End every connection that is known to or from these addresses, which nobody has now."""
        ...

    def drain(self, targets: tuple[str, ...], seconds: float) -> AsyncIterator[Draining]:
        """Yield how many published connections to targets are open, until none or the deadline."""
        ...

    async def removed(self) -> None:
        """Wait until somebody else has removed what carries packets: time to ``begin`` again."""
        ...

    async def close(self) -> None:
        """Let go of what this process holds; the kernel carries on."""
        ...
