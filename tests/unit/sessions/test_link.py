"""The link carries streams over a channel whose other end is a few lines of a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass, field

import pytest
from ram import Ram

from mizzen.model.errors import Failure
from mizzen.sessions import channel, link
from mizzen.sessions.channel import FRAME, Channel, FrameType, Hello
from mizzen.sessions.link import Link

TOKEN = "ab" * 16


class Symbols:
    def address(self, name: str) -> None:
        return None


@dataclass
class Kernel:
    memory: Ram
    symbols: Symbols = field(default_factory=Symbols)


@dataclass
class Guest:
    """The hypervisor's end is a byte in a pipe; stage 2's half of the channel is driven by hand."""

    kernel: Kernel
    pidfd: int
    dead: bool = False
    read: int = 0
    beat: int = 0

    def check(self) -> None:
        if self.dead:
            raise Failure("the guest is gone", "its hypervisor has ended")

    def taken(self) -> list[tuple[int, int, bytes]]:
        """Take the frames that have come, as stage 2 does."""
        memory = self.kernel.memory
        frames = []
        start = channel.TO_GUEST * 4096
        while self.read < memory.word(channel.TO_GUEST_WRITTEN):
            at = start + self.read
            kind, stream, size = FRAME.unpack_from(memory.data, at)
            frames.append((kind, stream, bytes(memory.data[at + FRAME.size :][:size])))
            self.read += FRAME.size + size
        memory.put(channel.TO_GUEST_READ, self.read)
        return frames

    def says(self, kind: FrameType, stream: int, payload: bytes = b"") -> None:
        memory = self.kernel.memory
        written = memory.word(channel.TO_HOST_WRITTEN)
        data = FRAME.pack(kind, stream, len(payload)) + payload
        at = channel.TO_HOST * 4096 + written
        memory.data[at : at + len(data)] = data
        memory.put(channel.TO_HOST_WRITTEN, written + len(data))

    def lives(self) -> None:
        self.beat += 1
        self.kernel.memory.put(channel.GUEST_BEAT, self.beat)


@contextlib.asynccontextmanager
async def linked():
    memory = Ram(channel.PAGES * 4096)
    header = channel.HEADER.pack(TOKEN.encode(), channel.VERSION, channel.RING_PAGES)
    memory.data[: len(header)] = header
    channel.LIST.pack_into(memory.data, 4096, *range(channel.PAGES))
    reader, writer = os.pipe()
    guest = Guest(Kernel(memory), reader)
    opened = Link(guest, Channel(memory, Hello(0, 4096), TOKEN))
    try:
        yield guest, opened, writer
    finally:
        guest.kernel.memory.put(channel.ENDED, 1)
        await opened.close()
        os.close(reader)
        os.close(writer)


def run(test):
    async def whole() -> None:
        async with linked() as (guest, opened, writer):
            await test(guest, opened, writer)

    asyncio.run(whole())


async def comes(guest: Guest, kind: FrameType) -> tuple[int, int, bytes]:
    """Wait for a frame of a kind; others are dropped."""
    while True:
        for frame in guest.taken():
            if frame[0] == kind:
                return frame
        await asyncio.sleep(0)


def test_streams_have_numbers_of_their_own_and_get_what_is_theirs():
    async def test(guest, opened, writer):
        first = await opened.open(FrameType.RUN, b"a", "cannot run")
        second = await opened.open(FrameType.RUN, b"b", "cannot run")
        assert guest.taken() == [(FrameType.RUN, 1, b"a"), (FrameType.RUN, 2, b"b")]
        guest.says(FrameType.OUTPUT, 2, b"two")
        guest.says(FrameType.OUTPUT, 1, b"one")
        assert (await first.receive()).payload == b"one"
        assert (await second.receive()).payload == b"two"

    run(test)


def test_frames_of_a_cancelled_stream_are_dropped():
    async def test(guest, opened, writer):
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        stream.cancel()
        await comes(guest, FrameType.CANCEL)
        guest.says(FrameType.OUTPUT, 1, b"late")
        guest.says(FrameType.EXIT, 1, bytes(4))
        following = await opened.open(FrameType.RUN, b"", "cannot run")
        guest.says(FrameType.OUTPUT, following.number, b"on")
        assert (await following.receive()).payload == b"on"

    run(test)


def test_what_ends_the_session_is_raised_by_everybody_who_waits():
    async def test(guest, opened, writer):
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        waiting = asyncio.create_task(stream.receive())
        guest.says(FrameType.FAILED, 0, b"the guest is shutting down")
        with pytest.raises(Failure, match="shutting down"):
            await waiting
        with pytest.raises(Failure, match="shutting down"):
            await opened.open(FrameType.RUN, b"", "cannot run")

    run(test)


def test_the_hypervisors_end_is_seen_at_once():
    async def test(guest, opened, writer):
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        guest.dead = True
        os.write(writer, b"x")
        with pytest.raises(Failure, match="hypervisor has ended"):
            await stream.receive()

    run(test)


def test_a_guest_that_lies_ends_its_session():
    async def test(guest, opened, writer):
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        guest.kernel.memory.put(channel.TO_HOST_WRITTEN, 1 << 40)
        with pytest.raises(Failure, match="spoiled"):
            await stream.receive()

    run(test)


def test_a_silent_guest_is_given_up(monkeypatch):
    async def test(guest, opened, writer):
        guest.lives()
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        with pytest.raises(Failure, match="paused, hung"):
            await stream.receive()

    monkeypatch.setattr(link, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(link, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(link, "SILENT_SECONDS", 0.05)
    run(test)


def test_a_guest_whose_channel_has_gone_has_rebooted(monkeypatch):
    async def test(guest, opened, writer):
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        guest.kernel.memory.data[:32] = bytes(32)
        with pytest.raises(Failure, match="rebooted"):
            await stream.receive()

    monkeypatch.setattr(link, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(link, "QUIET_SECONDS", 0.02)
    run(test)


def test_memory_that_somebody_else_has_by_now_means_a_reboot():
    async def test(guest, opened, writer):
        stream = await opened.open(FrameType.RUN, b"", "cannot run")
        guest.kernel.memory.data[:4096] = b"\xaa" * 4096
        with pytest.raises(Failure, match="rebooted"):
            await stream.receive()

    run(test)


def test_an_idle_link_sleeps():
    async def test(guest, opened, writer):
        opened._active = time.monotonic() - 60
        looks = 0
        step = opened._step

        def counted() -> bool:
            nonlocal looks
            looks += 1
            return step()

        opened._step = counted
        await asyncio.sleep(0.3)
        assert looks < 30

    run(test)
