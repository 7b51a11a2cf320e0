"""Target for what comes through the network daemon's socket: see ``targets``."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import tempfile
from functools import cache
from pathlib import Path

from memory_plane import MemoryPlane
from network_daemon import Running, opened, running

from mizzen.model.errors import Failure
from mizzen.model.network import Edge, Forward, Publication, Transport
from mizzen.network import protocol
from mizzen.network.keeper import Keeper
from mizzen.network.plane import Parts

LINES_MAX = 32
"""Packets that one input sends."""

WHOLE, DESCRIPTOR = b"!", b"@"
"""What a line begins with that is a packet as it is, or goes with a descriptor."""


class Fault(Exception):  # noqa: N818 - as limits.TooSlow
    """The daemon has done what it must not."""


def requests(data: bytes) -> None:
    """Ask a daemon that keeps something; each line is a request, in JSON.

    Whatever is asked, there is one answer, it was foreseen, and memory, database and packets tell
    the same afterwards. What is refused has changed nothing.
    """
    with tempfile.TemporaryDirectory(prefix="mizzen-fuzz-") as folder:
        Path(folder, "network.db").write_bytes(_furnished())
        asyncio.run(_ask(Path(folder), data.split(b"\n")[:LINES_MAX]))


@cache
def _furnished() -> bytes:
    """Return the database of a daemon that keeps something."""

    async def run(folder: Path) -> None:
        async with running(folder) as one:
            await _furnish(one)

    with tempfile.TemporaryDirectory(prefix="mizzen-fuzz-") as folder:
        asyncio.run(run(Path(folder)))
        return Path(folder, "network.db").read_bytes()


async def _ask(folder: Path, lines: list[bytes]) -> None:
    plane = MemoryPlane()
    async with running(folder, plane) as one:
        for line in lines:
            before = _state(one)
            reply = await _send(one, line)
            after = _state(one)
            if isinstance(reply, protocol.Refused):
                if "journalctl" in reply.fix:
                    raise Fault(f"nobody foresaw: {reply}")
                if before != after:
                    raise Fault(f"refused, and yet changed: {reply}")
            if after[0] != plane.carried:
                raise Fault("what it tells is not what carries packets")
        known = one.keeper.everything()
    with opened(folder) as connection:
        if Keeper(connection, MemoryPlane()).everything() != known:
            raise Fault("what it tells is not in its database")


def _state(one: Running) -> tuple[Parts, list[object]]:
    leases = one.connection.execute("SELECT * FROM lease").fetchall()
    free = one.connection.execute("SELECT * FROM free").fetchall()
    return one.keeper.everything(), [leases, free]


async def _furnish(one: Running) -> None:
    for machine in ("a", "b"):
        for prefix in ("10.70.0.0/29", "fd70::/125"):
            await one.network.request_address(f"machine:{machine}", prefix)
        _, tap = await one.network.open_link(machine)
        assert tap is not None
        os.close(tap)
    await one.network.request_address("machine:c", "10.70.0.0/29")
    forward = Forward("", 80, Transport.TCP, "10.70.0.2", 8080)
    await one.network.publish([Publication("web", (forward,))])
    await one.network.allow(Edge("a", "b", Transport.TCP, 80))


async def _send(one: Running, line: bytes) -> protocol.AnyReply:
    """Send a packet and return the only answer, or the last one."""
    ancillary = []
    if line.startswith(DESCRIPTOR):
        line = line[1:]
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
    packet = b'{"version":1,"request":%s}' % line
    if line.startswith(WHOLE):
        packet = line[1:] or b"!"  # an empty one is the end
    loop = asyncio.get_running_loop()
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as connection:
        connection.settimeout(0)
        connection.connect(str(one.network.path))
        connection.sendmsg([packet], ancillary)
        while True:
            answer, descriptors, _, _ = await _received(loop, connection)
            for descriptor in descriptors:
                os.close(descriptor)
            reply = protocol.decode_reply(answer)
            if not isinstance(reply, protocol.Draining) or reply.done:
                break
        _check(packet, reply)
        return reply


async def _received(
    loop: asyncio.AbstractEventLoop, connection: socket.socket
) -> tuple[bytes, list[int], int, object]:
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    await readable.wait()
    loop.remove_reader(connection)
    return socket.recv_fds(connection, protocol.MESSAGE_MAX, 4)


def _check(packet: bytes, reply: protocol.AnyReply) -> None:
    """Raise Fault if what is no request was not refused."""
    try:
        protocol.decode_call(packet)
    except Failure:
        if not isinstance(reply, protocol.Refused):
            raise Fault(f"not refused: {packet!r}") from None
