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
from mizzen.sessions.channel import Channel, FrameType, Hello

TOKEN = "0123456789abcdef" * 2
HELLO = Hello(0, 4096)


class Memory(Ram):
    def __init__(self) -> None:
        super().__init__(channel.PAGES * 4096)
        header = channel.HEADER.pack(TOKEN.encode(), channel.VERSION, channel.RING_PAGES)
        self.data[: len(header)] = header
        channel.LIST.pack_into(self.data, HELLO.list, *range(channel.PAGES))

    def guest_sends(self, data: bytes) -> None:
        """As stage 2 does it: into the last pages, then the counter."""
        written = self.word(channel.TO_HOST_WRITTEN)
        start = 4096 * channel.TO_HOST
        for i, byte in enumerate(data):
            self.data[start + (written + i) % channel.RING_SIZE] = byte
        self.put(channel.TO_HOST_WRITTEN, written + len(data))


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def opened(memory):
    return Channel(memory, HELLO, TOKEN)


def frame(kind: int, stream: int, payload: bytes) -> bytes:
    return channel.FRAME.pack(kind, stream, len(payload)) + payload


@settings(max_examples=25)
@given(st.lists(st.binary(max_size=9000), max_size=60), st.integers(1, 20000))
def test_frames_arrive_in_order_however_they_are_cut(payloads, step):
    memory = Memory()
    opened = Channel(memory, HELLO, TOKEN)
    sent = b"".join(frame(FrameType.OUTPUT, 7, payload) for payload in payloads)
    got = []
    for start in range(0, len(sent), step):
        memory.guest_sends(sent[start : start + step])
        got += opened.receive()
    assert got == [(FrameType.OUTPUT, 7, payload) for payload in payloads]
    assert memory.word(channel.TO_HOST_READ) == len(sent)


def test_what_is_sent_lies_in_the_ring(memory, opened):
    opened.send(FrameType.INPUT, 3, b"hello")
    start = channel.TO_GUEST * 4096
    assert memory.data[start : start + 17] == frame(FrameType.INPUT, 3, b"hello")
    assert memory.word(channel.TO_GUEST_WRITTEN) == 17


def test_room_shrinks_and_comes_back(memory, opened):
    before = opened.room
    while opened.room >= 30000:
        opened.send(FrameType.TOOLS, 1, bytes(30000))
    assert opened.room < before
    memory.put(channel.TO_GUEST_READ, memory.word(channel.TO_GUEST_WRITTEN))
    opened.look()
    assert opened.room == before


@pytest.mark.parametrize("counter", [channel.TO_HOST_WRITTEN, channel.TO_GUEST_READ])
@pytest.mark.parametrize("value", [channel.RING_SIZE + 1, 1 << 63])
def test_an_impossible_counter_ends_the_session(memory, opened, counter, value):
    memory.put(counter, value)
    with pytest.raises(Failure, match="spoiled"):
        opened.receive()


def test_an_impossible_frame_ends_the_session(memory, opened):
    memory.guest_sends(channel.FRAME.pack(FrameType.OUTPUT, 1, channel.FRAME_MAX + 1))
    with pytest.raises(Failure, match="spoiled"):
        opened.receive()


@given(st.binary(max_size=600))
def test_no_bytes_in_the_header_break_anything_but_the_session(noise):
    memory = Memory()
    opened = Channel(memory, HELLO, TOKEN)
    memory.data[128 : 128 + len(noise)] = noise
    with contextlib.suppress(Failure):
        opened.receive()
        assert 0 <= opened.room <= channel.FRAME_MAX


@given(st.integers(0, channel.PAGES - 1), st.integers(channel.PAGES, (1 << 64) - 1))
def test_frames_outside_of_ram_are_refused(number, frame):
    memory = Memory()
    memory.put(HELLO.list + 8 * number, frame)
    with pytest.raises(BadAddress):
        Channel(memory, HELLO, TOKEN)


@pytest.mark.parametrize("hello", [Hello(1 << 60, 4096), Hello(0, 1 << 60)])
def test_a_hello_that_leads_outside_of_ram_is_refused(memory, hello):
    with pytest.raises(BadAddress):
        Channel(memory, hello, TOKEN)


def test_a_channel_that_is_not_ours_is_refused(memory):
    with pytest.raises(Failure, match="not where"):
        Channel(memory, HELLO, "f" * 32)


def test_the_mark_is_gone_once_somebody_else_has_the_page(memory, opened):
    assert opened.there
    memory.data[:32] = bytes(32)
    assert not opened.there


@given(st.binary(max_size=100))
def test_any_hello_is_read_or_refused(hello):
    with contextlib.suppress(Failure):
        channel.read_hello(hello)


def test_a_hello_that_tells_of_a_failure_names_what_the_kernel_lacks():
    hello = channel.HELLO.pack(2, channel.PAGES, b"/proc/self/pagemap", 0, 0)
    with pytest.raises(Failure, match=r"CONFIG_PROC_PAGE_MONITOR.*No such file"):
        channel.read_hello(hello)


def test_what_the_guest_says_cannot_play_tricks_on_a_terminal():
    assert channel.printable(b"no\x1b[2J\nroom\xff") == "no [2J room\ufffd"
