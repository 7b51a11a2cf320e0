"""The network as the kernel carries it: nftables, links and connection tracking in one."""

from __future__ import annotations

from mizzen.model.network import Link

from . import links, plan
from .links import Links
from .nftables import Nftables
from .plane import Parts


class KernelPlane:
    """Carries packets in the network namespace that it was opened in; see ``Plane``."""

    mode = "kernel"

    def __init__(self, interfaces: Links) -> None:
        self._interfaces = interfaces
        self._nftables = Nftables()

    @classmethod
    async def open(cls) -> KernelPlane:
        """Connect to the kernel. Raises Failure."""
        return cls(await Links.connect())

    async def begin(self, everything: Parts) -> None:
        """Make the kernel carry exactly this, without a moment in which it carries neither."""
        _forward(everything)
        self._nftables.run(plan.table(everything), "cannot set up the network's rules")
        await self._interfaces.restore(everything.links)

    async def change(self, before: Parts, after: Parts) -> None:
        """Replace a part in one transaction."""
        _forward(after)
        script = plan.change(before, after)
        if script:
            self._nftables.run(script, "cannot change the network's rules")

    async def open_link(self, link: Link, namespace: int | None) -> int | None:
        """Make a link's interfaces."""
        return await self._interfaces.open(link, namespace)

    async def close_link(self, link: Link) -> None:
        """Remove a link's interfaces."""
        await self._interfaces.close(link)

    async def up(self) -> frozenset[str]:
        """Return the names of the interfaces of links that are there."""
        return self._interfaces.up()

    async def close(self) -> None:
        """Close all sockets; the kernel carries on."""
        self._interfaces.disconnect()
        self._nftables.close()


def _forward(parts: Parts) -> None:
    addresses = [address for link in parts.links for address in link.addresses]
    addresses += [
        forward.target for publication in parts.publications for forward in publication.forwards
    ]
    links.forward_packets({plan.version(address) for address in addresses})
