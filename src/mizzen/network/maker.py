"""Make network namespaces with a tap in each, in a process beside the daemon.

Making one takes CAP_SYS_ADMIN, which the daemon has not: the maker has it in a user namespace of
its own, and nothing outside. What it makes lives as long as the descriptors that it hands over.
Sources: user_namespaces(7), namespaces(7), Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mizzen.host import capabilities, namespaces, seccomp, sockets
from mizzen.host.capabilities import Capability
from mizzen.host.forked import Forked
from mizzen.model.network import INTERFACE_PREFIX

from . import netlink
from .links import open_tap

CELLS_MAX = 1024
"""Network namespaces of one maker's that there may be at once; the kernel counts them."""

_LIMIT = Path("/proc/sys/user/max_net_namespaces")
_TAP = f"{INTERFACE_PREFIX}cell"
_ANSWER = struct.Struct("=iI")
"""An errno, 0 if it was done; the tap's index."""


@dataclass(frozen=True, slots=True)
class Made:
    """A network namespace: a tap, whose descriptor keeps it, and a socket to its NETLINK_ROUTE."""

    index: int
    tap: int
    routes: socket.socket

    def close(self) -> None:
        """Let go of it."""
        os.close(self.tap)
        self.routes.close()


class Maker:
    """Asks the maker, for one at a time."""

    def __init__(self) -> None:
        """Start it. Where user namespaces are not allowed ``make`` tells so. Raises OSError."""
        self._process = Forked(_serve)

    async def make(self) -> Made:
        """Make one.

        Raises OSError: ENOSPC if there are CELLS_MAX, ConnectionError if the maker has ended.
        """
        connection = self._process.connection
        connection.send(b"?")
        await sockets.readable(connection)
        packet, descriptors, _, _ = socket.recv_fds(
            connection, _ANSWER.size, 2, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        number, index = _ANSWER.unpack(packet)
        if number:
            raise OSError(number, os.strerror(number))
        tap, routes = descriptors[0], socket.socket(fileno=descriptors[1])
        routes.settimeout(0)
        return Made(index, tap, routes)

    def close(self) -> None:
        """End it."""
        self._process.close()


def _serve(connection: socket.socket) -> None:
    home: int | OSError
    try:
        home = _prepare()
    except OSError as error:
        home = error
    while connection.recv(1):
        try:
            made = _make(home)
        except OSError as error:
            connection.send(_ANSWER.pack(error.errno or errno.EIO, 0))
            continue
        with closing(made):
            descriptors = [made.tap, made.routes.fileno()]
            socket.send_fds(connection, [_ANSWER.pack(0, made.index)], descriptors)


def _prepare() -> int:
    """Be in namespaces of its own, and give up what is not needed.

    Return a descriptor of the network namespace to be in between two others, which have to end
    when those who hold them let go. Raises OSError.
    """
    capabilities.keep_only()  # as a service has none but one: by hand the same is allowed
    namespaces.enter_new(namespaces.USER)
    namespaces.enter_new(namespaces.NETWORK)
    _LIMIT.write_text(str(CELLS_MAX + 1))
    capabilities.keep_only(Capability.NET_ADMIN, Capability.SYS_ADMIN)
    families = {socket.AF_UNIX, socket.AF_NETLINK}
    seccomp.restrict(families, namespaces={namespaces.NETWORK})
    return namespaces.current()


def _make(home: int | OSError) -> Made:
    """Make one and be home again. Raises OSError, what is home if there is none."""
    if isinstance(home, OSError):
        raise home
    namespaces.enter_new(namespaces.NETWORK)
    try:
        tap = open_tap(_TAP)
        try:
            routes = netlink.connect(socket.NETLINK_ROUTE)
            return Made(socket.if_nametoindex(_TAP), tap, routes)
        except BaseException:
            os.close(tap)
            raise
    finally:
        namespaces.enter(home, namespaces.NETWORK)
