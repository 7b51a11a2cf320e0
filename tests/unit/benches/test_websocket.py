"""Short messages are echoed over WebSocket, and nothing else is taken for one."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.benches import websocket


def reader(data: bytes) -> asyncio.StreamReader:
    made = asyncio.StreamReader()
    made.feed_data(data)
    made.feed_eof()
    return made


def test_the_answer_to_a_key_is_that_of_the_rfc():
    # RFC 6455, section 1.3.
    assert websocket.accept(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_masked_frame_is_that_of_the_rfc():
    # RFC 6455, section 5.7.
    assert websocket.frame(b"Hello") == bytes.fromhex("810548656c6c6f")
    masked = websocket.frame(b"Hello", bytes.fromhex("37fa213d"))
    assert masked == bytes.fromhex("818537fa213d7f9f4d5158")


@given(st.binary(max_size=websocket.PAYLOAD_MAX), st.binary(min_size=4, max_size=4) | st.just(b""))
def test_what_was_framed_is_read(payload, mask):
    async def read() -> bytes:
        return await websocket.read(reader(websocket.frame(payload, mask)))

    assert asyncio.run(read()) == payload


@given(st.binary(max_size=300))
def test_anything_else_is_refused_or_has_ended(data):
    async def read() -> bytes:
        return await websocket.read(reader(data))

    try:
        payload = asyncio.run(read())
    except (websocket.ProtocolError, asyncio.IncompleteReadError):
        return
    assert data[0] == 0x81
    assert len(payload) == data[1] & 0x7F


def test_a_message_is_answered_until_the_server_closes():
    async def talk() -> list[bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        server = websocket.EchoServer("one", listener)
        await server.start()
        client = await websocket.Client.connect(socket.socket(), address)
        answers = [await client.ask(b"a"), await client.ask(b"b")]
        await server.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.ask(b"c")
        client.close()
        with pytest.raises(ConnectionRefusedError):
            await websocket.Client.connect(socket.socket(), address)
        return answers

    assert asyncio.run(talk()) == [b"one a", b"one b"]


def test_a_server_of_another_protocol_is_told():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    async def talk() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            with pytest.raises(websocket.ProtocolError):
                await websocket.Client.connect(socket.socket(), server.sockets[0].getsockname())

    asyncio.run(talk())
