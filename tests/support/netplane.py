"""A host with an outside and machines, each a network namespace, and the plane between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import pytest
from netns import Namespace, Service

from mizzen.model.network import Edge, Forward, Link, Publication, Transport
from mizzen.network import conntrack
from mizzen.network.conntrack import Flow
from mizzen.network.kernel import KernelPlane
from mizzen.network.maker import Maker
from mizzen.network.plane import Parts

ValueT = TypeVar("ValueT")

BOTH = pytest.mark.parametrize("v", [0, 1], ids=["IPv4", "IPv6"])
"""The index of a pair of addresses."""

HOST = ("192.0.2.1", "2001:db8::1")
OTHER = ("192.0.2.9", "2001:db8::9")
OUTSIDE = ("192.0.2.2", "2001:db8::2")
GATEWAY = ("10.77.0.1", "fd77::1")


def cells_allowed() -> bool:
    """Whether user namespaces can be made: in a chroot they cannot (user_namespaces(7))."""
    return (
        subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode
        == 0
    )


@contextlib.asynccontextmanager
async def kernel_plane() -> AsyncIterator[KernelPlane]:
    """Have a plane of this network namespace, with a maker of cells."""
    with contextlib.closing(Maker()) as maker:
        plane = await KernelPlane.open(maker)
        try:
            yield plane
        finally:
            await plane.close()


class Network:
    """The host, its plane and what the plane carries at present."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.host = self._namespace()
        self.outside = self._namespace()
        self.machines: dict[str, Namespace] = {}
        self.taps: dict[str, int] = {}
        self.parts = Parts()
        self.host.connect(self.outside, "up0", "eth0")
        self.host.ip(
            "link set up0 up",
            f"addr add {HOST[0]}/24 dev up0",
            f"addr add {OTHER[0]}/24 dev up0",
            f"addr add {HOST[1]}/64 dev up0 nodad",
            f"addr add {OTHER[1]}/64 dev up0 nodad preferred_lft 0",  # sends from it only answers
        )
        self.outside.ip(
            "link set eth0 up",
            f"addr add {OUTSIDE[0]}/24 dev eth0",
            f"addr add {OUTSIDE[1]}/64 dev eth0 nodad",
            # Outside knows a way to the machines' own addresses, as a router's user could.
            f"route add 10.77.0.0/16 via {HOST[0]}",
            f"route add fd77::/64 via {HOST[1]}",
        )
        self._runner = stack.enter_context(asyncio.Runner())
        plane = kernel_plane()
        self.plane = self.do(plane.__aenter__())
        stack.callback(lambda: self.do(plane.__aexit__(None, None, None)))
        self.do(self.plane.begin(self.parts))

    def do(self, work: Coroutine[Any, Any, ValueT]) -> ValueT:
        """Run a coroutine on the host."""
        with self.host.entered():
            return self._runner.run(work)

    def change(self, before: Parts, after: Parts) -> None:
        """Replace a part, as the daemon does."""
        self.do(self.plane.change(before, after))
        self.parts = Parts(
            _replaced(self.parts.links, before.links, after.links),
            _replaced(self.parts.publications, before.publications, after.publications),
            _replaced(self.parts.edges, before.edges, after.edges),
        )

    def machine(
        self, name: str, *, label: str = "", outward: bool = True, tap: bool = False
    ) -> Link:
        """Make a machine: its link, and behind it a namespace, or a tap that the test reads."""
        number = len(self.parts.links) + 1
        addresses = (f"10.77.0.{number + 1}", f"fd77::{number + 1:x}")
        mac = f"02:00:00:00:00:{number:02x}"
        link = Link(number, name, label or name, addresses, GATEWAY, mac, outward)
        self.change(
            Parts(self.parts.links, edges=self.parts.edges),
            Parts((*self.parts.links, link), edges=self.parts.edges),
        )
        if tap:
            descriptor = self.do(self.plane.open_link(link, None))
            assert descriptor is not None
            self.taps[name] = descriptor
            self._stack.callback(lambda: os.close(descriptor))
            return link
        namespace = self.machines[name] = self._namespace()
        assert self.do(self.plane.open_link(link, namespace.descriptor)) is None
        namespace.ip(
            "link set eth0 up",
            f"addr add {addresses[0]}/32 dev eth0",
            f"addr add {addresses[1]}/128 dev eth0 nodad",
            f"route add default via {GATEWAY[0]} dev eth0 onlink",
            f"route add default via {GATEWAY[1]} dev eth0 onlink",
        )
        return link

    def publish(self, name: str, *forwards: Forward) -> Publication:
        """Set a publication over the one of that name."""
        publication = Publication(name, forwards)
        before = tuple(one for one in self.parts.publications if one.name == name)
        self.change(Parts(publications=before), Parts(publications=(publication,)))
        return publication

    def allow(self, edge: Edge) -> None:
        links = self.parts.links
        self.change(Parts(links), Parts(links, edges=(edge,)))

    def deny(self, edge: Edge) -> None:
        links = self.parts.links
        self.change(Parts(links, edges=(edge,)), Parts(links))

    def flows(self) -> list[Flow]:
        """Return the host's table of connections."""

        async def every() -> list[Flow]:
            return [flow async for flow in conntrack.flows()]

        return self.do(every())

    def service(self, where: str | Namespace, name: str, port: int, *, udp: bool = False) -> None:
        """Start a service in a machine or elsewhere."""
        namespace = self.machines[where] if isinstance(where, str) else where
        self._stack.callback(Service(namespace, name, port, udp=udp).close)

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._stack.callback(namespace.close)
        return namespace


def _replaced(
    held: tuple[ValueT, ...], before: tuple[ValueT, ...], after: tuple[ValueT, ...]
) -> tuple[ValueT, ...]:
    kept = tuple(one for one in held if one not in before or one in after)
    return kept + tuple(one for one in after if one not in held)


def forwards(
    link: Link, port: int, target_port: int, *, transport: Transport = Transport.TCP
) -> tuple[Forward, Forward]:
    """Lead a port of every address of the host, IPv4 and IPv6, to a machine."""
    four, six = (Forward("", port, transport, address, target_port) for address in link.addresses)
    return four, six
