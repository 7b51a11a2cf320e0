"""The network as the kernel carries it: nftables, links, cells and connection tracking in one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Forward, Link

from . import conntrack, draining, following, links, listeners, plan, removal, takeover
from .cells import Cells
from .links import Links
from .maker import Maker
from .nftables import Nftables
from .plane import Parts
from .protocol import Draining


class KernelPlane:
    """Carries packets in the network namespace that it was opened in; see ``Plane``."""

    mode = "kernel"

    def __init__(
        self,
        interfaces: Links,
        cells: Cells,
        nftables: Nftables,
        changes: socket.socket,
        held: contextlib.ExitStack,
    ) -> None:
        """Take over what is open, and what is held open meanwhile."""
        self._interfaces = interfaces
        self._cells = cells
        self._nftables = nftables
        self._changes = changes
        self._held = held

    @classmethod
    async def open(cls, maker: Maker) -> KernelPlane:
        """Connect to the kernel. maker: of cells, the caller's. Raises Failure."""
        with contextlib.ExitStack() as held:
            with _explained("cannot listen to the kernel's changes"):
                held.enter_context(draining.listening())
                changes = held.enter_context(removal.watching())
            interfaces = await Links.connect()
            held.callback(interfaces.disconnect)
            nftables = Nftables()
            held.callback(nftables.close)
            cells = Cells(maker)
            held.callback(cells.close)
            return cls(interfaces, cells, nftables, changes, held.pop_all())

    async def begin(self, everything: Parts) -> None:
        """Make the kernel carry exactly this, without a moment in which it carries neither."""
        _forward(everything)
        what = "cannot set up the network's rules"
        self._nftables.run(f"table {plan.TABLE}", what)  # so that there is one to list
        listed = self._nftables.run(f"list table {plan.TABLE}", what)
        self._nftables.run(takeover.script(listed, everything), what)
        # What it removed itself is no news; but somebody else may have been at it just now.
        removal.discard(self._changes)
        self._nftables.run(f"list chain {plan.TABLE} {plan.CHAINS[0]}", what)
        await self._interfaces.restore(everything.links)
        with _explained("cannot set right which connections there are"):
            await following.put_right(everything)

    async def change(self, before: Parts, after: Parts) -> None:
        """Replace a part in one transaction."""
        _forward(after)
        what = "cannot change the network's rules"
        script = plan.change(before, after)
        if script:
            self._nftables.run(script, what)
        try:
            with _explained(what):
                await following.follow(before, after)
        except BaseException:
            if script:
                self._nftables.run(plan.change(after, before), what)
            raise

    async def open_link(self, link: Link, namespace: int | None) -> int | None:
        """Make a link's interfaces."""
        return await self._interfaces.open(link, namespace)

    async def close_link(self, link: Link) -> None:
        """Remove a link's interfaces."""
        await self._interfaces.close(link)

    async def open_cell(self, cell: Cell) -> int:
        """Make a cell."""
        return await self._cells.open(cell)

    async def up(self) -> frozenset[str]:
        """Return the names of the interfaces of links that are there."""
        return self._interfaces.up()

    async def holder(self, forward: Forward) -> str:
        """Say who listens at a forward's port on this host already, "" if nobody does."""
        return await listeners.holder(forward)

    async def forget(self, addresses: tuple[str, ...]) -> None:
        """End every connection that is known to or from these addresses."""
        with _explained("cannot end the connections of an address"):
            await conntrack.forget(addresses)

    def drain(self, targets: tuple[str, ...], seconds: float) -> AsyncIterator[Draining]:
        """Yield how many published connections to targets are open."""
        return draining.drain(targets, seconds)

    async def removed(self) -> None:
        """Wait until somebody else has removed the table, or may have."""
        with _explained("cannot hear of changes of the network's rules"):
            await removal.removed(self._changes)

    async def close(self) -> None:
        """Close all sockets; the kernel carries on."""
        self._held.close()


def _forward(parts: Parts) -> None:
    addresses = [address for link in parts.links for address in link.addresses]
    addresses += [
        forward.target for publication in parts.publications for forward in publication.forwards
    ]
    links.forward_packets({plan.version(address) for address in addresses})


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(what, str(error), "run: mizzen doctor") from error
