"""As much of WebSocket (RFC 6455) as short text messages need: a server that echoes, a client."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import socket

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAYLOAD_MAX = 125
"""Bytes of a message; longer ones have a longer header."""

_TEXT = 0x81  # final, opcode 1
_KEY = re.compile(rb"^Sec-WebSocket-Key: *([A-Za-z0-9+/=]+)\r$", re.IGNORECASE | re.MULTILINE)


class ProtocolError(Exception):
    """The other side does not speak WebSocket as it is spoken here."""


def accept(key: bytes) -> bytes:
    """Return the server's answer to a client's key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """Return a text message as a frame. mask: four bytes if a client sends it."""
    if len(payload) > PAYLOAD_MAX:
        raise ValueError(len(payload))
    header = bytes([_TEXT, len(payload) | (0x80 if mask else 0)])
    return header + mask + (_masked(payload, mask) if mask else payload)


async def read(reader: asyncio.StreamReader) -> bytes:
    """Read a text message. Raises IncompleteReadError at the end, ProtocolError, OSError."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if first != _TEXT or length > PAYLOAD_MAX:
        raise ProtocolError(first, second)
    mask = await reader.readexactly(4) if second & 0x80 else b""
    payload = await reader.readexactly(length)
    return _masked(payload, mask) if mask else payload


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


class EchoServer:
    """Answers each message with a name and the message, until it is closed."""

    def __init__(self, name: str, listener: socket.socket) -> None:
        self._name = name.encode()
        self._listener = listener
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections from here on."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def close(self) -> None:
        """End all connections and accept no more."""
        for writer in self._writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            found = _KEY.search(await reader.readuntil(b"\r\n\r\n"))
            if found is None:
                return
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept(found[1]) + b"\r\n\r\n"
            )
            while True:
                writer.write(frame(self._name + b" " + await read(reader)))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ProtocolError, OSError):
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


class Client:
    """A connection of a client. Raises OSError, IncompleteReadError, ProtocolError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, client: socket.socket, address: tuple[str, int]) -> Client:
        """Open a connection on a socket that is not connected; the socket is this one's then."""
        client.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(client, address)
            reader, writer = await asyncio.open_connection(sock=client)
        except BaseException:
            client.close()
            raise
        try:
            key = base64.b64encode(os.urandom(16))
            writer.write(
                f"GET / HTTP/1.1\r\nHost: {address[0]}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 ") or accept(key) not in head:
                raise ProtocolError(head[:40])
        except BaseException:
            writer.transport.abort()
            raise
        return cls(reader, writer)

    async def ask(self, message: bytes) -> bytes:
        """Send a message and return the answer."""
        self._writer.write(frame(message, os.urandom(4)))
        return await read(self._reader)

    def close(self) -> None:
        """End the connection, without a goodbye."""
        self._writer.transport.abort()
