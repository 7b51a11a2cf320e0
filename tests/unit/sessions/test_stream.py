"""Streams keep to their credit, and hold the guest to its own."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.sessions.channel import WINDOW, FrameType
from mizzen.sessions.stream import PART, Stream


class Carrier:
    """Takes everything, and lets the guest take it when a test says so."""

    def __init__(self) -> None:
        self.room = 1 << 20
        self.sent: list[tuple[FrameType, bytes]] = []
        self.forgotten: list[int] = []
        self.moved = asyncio.Event()
        self.failure: Failure | None = None

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def send(self, kind, stream, payload) -> None:
        self.sent.append((kind, payload))

    def post(self, kind, stream, payload=b"") -> None:
        self.sent.append((kind, payload))

    async def progress(self) -> None:
        self.check()
        self.moved.clear()
        await self.moved.wait()
        self.check()

    def forget(self, stream) -> None:
        self.forgotten.append(stream)

    def size_sent(self) -> int:
        return sum(len(payload) for kind, payload in self.sent if kind == FrameType.INPUT)


def run(test):
    """Run a test's coroutine on a carrier and a stream of it."""

    async def whole() -> None:
        carrier = Carrier()
        await test(carrier, Stream(carrier, 5, "cannot do it"))

    asyncio.run(whole())


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def credit(size: int) -> bytes:
    return size.to_bytes(4, "little")


def test_no_more_is_sent_than_the_guest_has_given_credit_for():
    async def test(carrier, stream):
        sending = asyncio.create_task(stream.send(bytes(WINDOW + 1000)))
        await settled()
        assert carrier.size_sent() == WINDOW
        assert max(len(payload) for _, payload in carrier.sent) <= PART
        stream.take(FrameType.CREDIT, credit(5000))
        carrier.moved.set()
        await sending
        assert carrier.size_sent() == WINDOW + 1000

    run(test)


def test_what_nobody_reads_any_more_is_dropped():
    async def test(carrier, stream):
        sending = asyncio.create_task(stream.send(bytes(WINDOW + 1)))
        await settled()
        stream.take(FrameType.EXIT, bytes(4))
        carrier.moved.set()
        await sending

    run(test)


def test_the_guest_gets_credit_for_what_was_received_and_for_no_more():
    async def test(carrier, stream):
        for _ in range(4):
            stream.take(FrameType.OUTPUT, bytes(WINDOW // 4))
        assert not carrier.sent
        await stream.receive()
        assert carrier.sent == [(FrameType.CREDIT, credit(WINDOW // 4))]

    run(test)


def test_a_guest_that_sends_beyond_its_credit_has_spoiled_the_session():
    async def test(carrier, stream):
        stream.take(FrameType.OUTPUT, bytes(WINDOW))
        with pytest.raises(Failure, match="spoiled"):
            stream.take(FrameType.ERRORS, b"x")

    run(test)


def test_bits_are_put_together():
    async def test(carrier, stream):
        for _ in range(1000):
            stream.take(FrameType.OUTPUT, b"x")
        stream.take(FrameType.ERRORS, b"y")
        assert (await stream.receive()).payload == b"x" * 1000
        assert (await stream.receive()).payload == b"y"

    run(test)


def test_a_refusal_is_raised_behind_what_came_before():
    async def test(carrier, stream):
        stream.take(FrameType.OUTPUT, b"some")
        stream.take(FrameType.FAILED, b"no\x1bsuch port")
        assert (await stream.receive()).payload == b"some"
        with pytest.raises(Failure, match="cannot do it: no such port"):
            await stream.receive()
        with pytest.raises(Failure, match="over"):
            await stream.receive()

    run(test)


def test_the_end_of_the_session_wakes_who_waits():
    async def test(carrier, stream):
        receiving = asyncio.create_task(stream.receive())
        sending = asyncio.create_task(stream.send(bytes(WINDOW + 1)))
        await settled()
        carrier.failure = Failure("the session is over", "it is")
        carrier.moved.set()
        stream.wake()
        for task in (receiving, sending):
            with pytest.raises(Failure, match="over"):
                await task

    run(test)


def test_a_cancelled_stream_says_so_once_and_takes_no_more():
    async def test(carrier, stream):
        stream.cancel()
        stream.cancel()
        stream.take(FrameType.OUTPUT, b"late")
        assert carrier.sent == [(FrameType.CANCEL, b"")]
        assert 5 in carrier.forgotten

    run(test)


@given(st.lists(st.tuples(st.integers(0, 50), st.binary(max_size=20)), max_size=200))
def test_any_frames_are_taken_or_refused(frames):
    async def test(carrier, stream):
        with contextlib.suppress(Failure):
            for kind, payload in frames:
                stream.take(kind, payload)
        while stream._frames:
            with contextlib.suppress(Failure):
                await stream.receive()

    run(test)
