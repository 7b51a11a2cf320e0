"""Machines' links to the host: taps, and pairs of veth interfaces; addresses, routes, neighbours.

A link is routed: the host has a route to each of the machine's addresses and a neighbour entry
that nobody can overwrite, and the gateway's addresses on its end. Needs CAP_NET_ADMIN.
Sources: rtnetlink(7), Documentation/networking/ip-sysctl.rst and tuntap.rst.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mizzen.model.errors import Failure
from mizzen.model.network import INTERFACE_PREFIX, Link

from .plan import version

if TYPE_CHECKING:
    from pyroute2 import AsyncIPRoute

HOST_MAC = "02:6d:7a:6e:00:01"
"""The host's end of every link, so that a copy of a machine knows its gateway's on any of them."""

SYSCTLS4 = {
    "conf/{}/rp_filter": "1",  # also no neighbour entries for addresses that are not the machine's
    "conf/{}/proxy_arp": "1",  # a machine may take its whole prefix to be on its link
    "neigh/{}/proxy_delay": "0",
    "conf/{}/route_localnet": "1",  # the host may reach publications at 127.0.0.1
    "conf/{}/accept_redirects": "0",
    "conf/{}/send_redirects": "0",
    "conf/{}/accept_source_route": "0",
}
"""Of a link, below /proc/sys/net/ipv4."""

SYSCTLS6 = {
    "conf/{}/addr_gen_mode": "1",  # none: only the gateway's address is on the link
    "conf/{}/accept_ra": "0",
    "conf/{}/autoconf": "0",
    "conf/{}/accept_redirects": "0",
}
"""Of a link with IPv6, below /proc/sys/net/ipv6."""

_SYSCTL = Path("/proc/sys/net")
_PEER = "eth0"
_TUNSETIFF = 0x400454CA
_TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
_LINK_SCOPE = 253
_PERMANENT = 0x80  # NUD_PERMANENT
_NODAD = 0x02  # IFA_F_NODAD
_ENODEV = 19


class Links:
    """Makes and removes links in the network namespace that it was opened in."""

    def __init__(self, netlink: AsyncIPRoute) -> None:
        self._netlink = netlink

    @classmethod
    async def connect(cls) -> Links:
        """Open a socket to the kernel."""
        from pyroute2 import AsyncIPRoute  # noqa: PLC0415 - takes 200 ms

        netlink = AsyncIPRoute()
        await netlink.setup_endpoint()
        return cls(netlink)

    async def open(self, link: Link, namespace: int | None) -> int | None:
        """Make a link's interfaces and bring up the host's; see ``Plane.open_link``."""
        with _explained(f"cannot make the link of machine {link.machine}"):
            await self._remove(link.interface)
            tap = None
            try:
                if namespace is None:
                    tap = open_tap(link.interface)
                else:
                    await self._make_pair(link, namespace)
                await self._configure(link)
            except BaseException:
                if tap is not None:
                    os.close(tap)
                await self._remove(link.interface)
                raise
            return tap

    async def close(self, link: Link) -> None:
        """Remove a link's interfaces, if there are any."""
        with _explained(f"cannot remove the link of machine {link.machine}"):
            await self._remove(link.interface)

    async def restore(self, links: Sequence[Link]) -> None:
        """Set right the interfaces that are there, and remove those that are no link's."""
        there = self.up()
        known = {link.interface for link in links}
        for stranger in sorted(there - known):
            with _explained(f"cannot remove the network interface {stranger}"):
                await self._remove(stranger)
        for link in links:
            if link.interface in there:
                with _explained(f"cannot set up the link of machine {link.machine}"):
                    await self._configure(link)

    def up(self) -> frozenset[str]:
        """Return the names of the interfaces of links that are there."""
        names = (name for _, name in socket.if_nameindex())
        return frozenset(name for name in names if name.startswith(INTERFACE_PREFIX))

    def disconnect(self) -> None:
        """Close the socket."""
        self._netlink.close()

    async def _make_pair(self, link: Link, namespace: int) -> None:
        peer = {"ifname": _PEER, "address": link.mac, "net_ns_fd": namespace}
        await self._netlink.link("add", ifname=link.interface, kind="veth", peer=peer)

    async def _configure(self, link: Link) -> None:
        """Give the host's end everything it has; may be repeated at any time."""
        interface = link.interface
        versions = {version(address) for address in link.addresses}
        for name, value in SYSCTLS4.items():
            _set(f"ipv4/{name.format(interface)}", value)
        if 6 in versions:
            _set(f"ipv6/conf/{interface}/disable_ipv6", "0")
            for name, value in SYSCTLS6.items():
                _set(f"ipv6/{name.format(interface)}", value)
        elif (_SYSCTL / "ipv6").exists():
            _set(f"ipv6/conf/{interface}/disable_ipv6", "1")
        index = socket.if_nametoindex(interface)
        (there,) = await self._netlink.link("get", index=index)
        if there.get("address") != HOST_MAC:  # setting it empties the neighbour table
            await self._netlink.link("set", index=index, address=HOST_MAC)
        await self._netlink.link("set", index=index, ifalias=link.machine)
        for gateway in link.gateways:
            flags = {"flags": _NODAD} if version(gateway) == 6 else {}
            await self._netlink.addr(
                "replace", index=index, address=gateway, prefixlen=_bits(gateway), **flags
            )
        await self._netlink.link("set", index=index, state="up")
        for address in link.addresses:
            scope = {"scope": _LINK_SCOPE} if version(address) == 4 else {}
            await self._netlink.route(
                "replace", dst=f"{address}/{_bits(address)}", oif=index, **scope
            )
            await self._netlink.neigh(
                "replace", ifindex=index, dst=address, lladdr=link.mac, state=_PERMANENT
            )

    async def _remove(self, interface: str) -> None:
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - takes 200 ms

        try:
            await self._netlink.link("del", index=socket.if_nametoindex(interface))
        except OSError:
            return  # there is none
        except NetlinkError as error:
            if error.code != _ENODEV:  # it went by itself, as a tap does with its last descriptor
                raise


def forward_packets(versions: set[int]) -> None:
    """Let the host route IPv4 or IPv6, if it does not already. Raises Failure."""
    with _explained("cannot let this host forward packets"):
        if 4 in versions:
            _set("ipv4/ip_forward", "1")
        if 6 in versions and _get("ipv6/conf/all/forwarding") == "0":
            # A router ignores what other routers announce, unless it is told not to: without this
            # a host that has its address or route from them would lose it.
            for setting in sorted(_SYSCTL.glob("ipv6/conf/*/accept_ra")):
                name = f"ipv6/conf/{setting.parent.name}/accept_ra"
                if _get(name) == "1" and not setting.parent.name.startswith(INTERFACE_PREFIX):
                    _set(name, "2")
            _set("ipv6/conf/all/forwarding", "1")


def open_tap(interface: str) -> int:
    """Make a tap in this network namespace; it is gone with its last descriptor. Raises OSError."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _TAP_FLAGS))
    except BaseException:
        os.close(tap)
        raise
    return tap


def _bits(address: str) -> int:
    return 32 if version(address) == 4 else 128


def _get(name: str) -> str:
    return (_SYSCTL / name).read_text().strip()


def _set(name: str, value: str) -> None:
    """Write a setting that has another value: a few of them do work when they are written."""
    if _get(name) != value:
        (_SYSCTL / name).write_text(value)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - takes 200 ms

    try:
        yield
    except (OSError, NetlinkError) as error:
        why = os.strerror(error.code) if isinstance(error, NetlinkError) else str(error)
        raise Failure(what, why, "run: mizzen doctor") from error
