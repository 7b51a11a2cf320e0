"""Frames go through the rings whole, and a guest that lies spoils only its own session."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ram import Ram

from mizzen.introspection.memory.physical import BadAddress
from mizzen.model.errors import Failure
from mizzen.sessions import channel
from mizzen.sessions.channel import Channel, FrameType

TOKEN = "0123456789abcdef" * 2


class Memory(Ram):
    def __init__(self) -> None:
        super().__init__(channel.PAGES * 4096)
        self.data[:40] = channel.HEADER.pack(TOKEN.encode(), channel.VERSION, channel.RING_PAGES)

    def guest_sends(self, data: bytes) -> None:
        """As stage 2 does it: into the last pages, then the counter."""
        written = self.word(channel.TO_HOST_WRITTEN)
        start = 4096 * (1 + channel.RING_PAGES)
        for i, byte in enumerate(data):
            self.data[start + (written + i) % channel.RING_SIZE] = byte
        self.put(channel.TO_HOST_WRITTEN, written + len(data))


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def opened(memory):
    return Channel(memory, list(range(channel.PAGES)), TOKEN)


def frame(kind: int, payload: bytes) -> bytes:
    return channel.FRAME.pack(kind, len(payload)) + payload


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=9000), max_size=60), st.integers(1, 20000))
def test_frames_arrive_in_order_however_they_are_cut(payloads, step):
    memory = Memory()
    opened = Channel(memory, list(range(channel.PAGES)), TOKEN)
    stream = b"".join(frame(FrameType.OUTPUT, payload) for payload in payloads)
    got = []
    for start in range(0, len(stream), step):
        memory.guest_sends(stream[start : start + step])
        got += [payload for _, payload in opened.receive()]
    assert got == payloads
    assert memory.word(channel.TO_HOST_READ) == len(stream)


def test_what_is_sent_lies_in_the_ring(memory, opened):
    opened.send(FrameType.INPUT, b"hello")
    assert memory.data[4096 : 4096 + 13] == frame(FrameType.INPUT, b"hello")
    assert memory.word(channel.TO_GUEST_WRITTEN) == 13


def test_room_shrinks_and_comes_back(memory, opened):
    before = opened.room
    while opened.room >= 30000:
        opened.send(FrameType.TOOLS, bytes(30000))
    assert opened.room < before
    memory.put(channel.TO_GUEST_READ, memory.word(channel.TO_GUEST_WRITTEN))
    assert opened.room == before


@pytest.mark.parametrize("written", [channel.RING_SIZE + 1, 1 << 63])
def test_an_impossible_counter_ends_the_session(memory, opened, written):
    memory.put(channel.TO_HOST_WRITTEN, written)
    with pytest.raises(Failure, match="spoiled"):
        opened.receive()


def test_an_impossible_frame_ends_the_session(memory, opened):
    memory.guest_sends(channel.FRAME.pack(FrameType.OUTPUT, channel.FRAME_MAX + 1))
    with pytest.raises(Failure, match="spoiled"):
        opened.receive()


@given(st.binary(max_size=600))
def test_no_bytes_in_the_header_break_anything_but_the_session(noise):
    memory = Memory()
    opened = Channel(memory, list(range(channel.PAGES)), TOKEN)
    memory.data[128 : 128 + len(noise)] = noise
    with contextlib.suppress(Failure):
        assert 0 <= opened.input_room <= channel.INPUT_WINDOW
        opened.receive()
        assert 0 <= opened.room <= channel.FRAME_MAX


def test_frames_outside_of_ram_are_refused(memory):
    with pytest.raises(BadAddress):
        Channel(memory, [channel.PAGES] * channel.PAGES, TOKEN)


def test_a_channel_that_is_not_ours_is_refused(memory):
    with pytest.raises(Failure, match="not where"):
        Channel(memory, list(range(channel.PAGES)), "f" * 32)


@given(st.binary(max_size=1200))
def test_any_hello_is_read_or_refused(hello):
    with contextlib.suppress(Failure):
        assert len(channel.frames_of(hello)) == channel.PAGES
