"""Flows that go on beside the load: a websocket that stays open, and an echo by UDP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from mizzen.host.namespaces import NetworkNamespace

from . import websocket

PACE = 0.02
"""Seconds between two messages of the websocket."""

UDP_PACE = 0.002
"""Seconds between two packets."""

PATIENCE = 10.0
"""Seconds until a websocket that says nothing counts as broken."""


class UdpServer(asyncio.DatagramProtocol):
    """Answers each packet with a name and the packet."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        # The selector loop's own is no DatagramTransport by its class, before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        assert self._transport is not None
        self._transport.sendto(self._name + b" " + data, addr)


@dataclass(slots=True)
class Sockets:
    """What became of websockets. early: ended before their server was stopped. refused: tries."""

    opened: int = 0
    messages: int = 0
    early: int = 0
    refused: int = 0


@dataclass(slots=True)
class Packets:
    """Packets by UDP: when each was sent, by its number, and who has answered."""

    sent: list[float] = field(default_factory=list)
    answers: dict[int, str] = field(default_factory=dict)

    def late(self, old: str, switched: float) -> int:
        """Count packets that were sent after a switch, and that the old one answered."""
        return sum(
            1 for number, who in self.answers.items() if who == old and self.sent[number] > switched
        )

    @property
    def lost(self) -> int:
        """Packets without an answer."""
        return len(self.sent) - len(self.answers)


async def keep_websocket(
    where: NetworkNamespace, address: tuple[str, int], stopped: Callable[[str], bool], seen: Sockets
) -> None:
    """Keep a websocket open for ever; open it anew where a server that was stopped has ended it.

    stopped: whether the server of that name was told to end.
    """
    while True:
        who = ""
        try:
            with where.entered():
                client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            async with asyncio.timeout(PATIENCE):
                one = await websocket.Client.connect(client, address)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, websocket.ProtocolError):
            seen.refused += 1
            await asyncio.sleep(PACE)
            continue
        seen.opened += 1
        try:
            while True:
                async with asyncio.timeout(PATIENCE):
                    who = (await one.ask(b"hello")).split()[0].decode()
                seen.messages += 1
                await asyncio.sleep(PACE)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, websocket.ProtocolError):
            if not stopped(who):
                seen.early += 1
        finally:
            one.close()


class _UdpClient(asyncio.DatagramProtocol):
    def __init__(self, seen: Packets) -> None:
        self._seen = seen

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002
        who, number = data.decode().split()
        self._seen.answers[int(number)] = who

    def error_received(self, exc: Exception) -> None:
        """A packet that could not be delivered is one without an answer."""


async def send_packets(where: NetworkNamespace, address: tuple[str, int], seen: Packets) -> None:
    """Send packets for ever, from one port."""
    loop = asyncio.get_running_loop()
    with where.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(0)
    client.connect(address)
    transport, _ = await loop.create_datagram_endpoint(lambda: _UdpClient(seen), sock=client)
    try:
        while True:
            number = len(seen.sent)
            seen.sent.append(loop.time())
            transport.sendto(str(number).encode())
            await asyncio.sleep(UDP_PACE)
    finally:
        transport.close()


@contextlib.contextmanager
def beside(*flows: asyncio.Task[None]) -> Iterator[None]:
    """Let flows go on while the block lasts; what has broken one is raised."""
    try:
        yield
        for flow in flows:
            if flow.done():
                flow.result()
    finally:
        for flow in flows:
            flow.cancel()
