"""A stream: one thing that goes on in a session, with bytes both ways and an end."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Protocol

from mizzen.model.errors import Failure

from .channel import FRAME_MAX, WINDOW, Frame, FrameType, Spoiled, printable

DATA = frozenset({FrameType.OUTPUT, FrameType.ERRORS})
ONCE = frozenset({FrameType.READY, FrameType.OUTPUT_END, FrameType.ERRORS_END})
LAST = frozenset({FrameType.EXIT, FrameType.FAILED})
MERGED = 64 << 10
"""Bytes up to which what comes bit by bit is put together, so that bits cost no memory."""
PART = 64 << 10
"""Bytes sent at once, so that streams take turns."""


class Carrier(Protocol):
    """What carries the frames of streams; see ``Link``."""

    def check(self) -> None:
        """Raise what ended the session, if something did."""
        ...

    @property
    def room(self) -> int:
        """Bytes of payload that a frame sent now may have."""
        ...

    def send(self, kind: FrameType, stream: int, payload: bytes) -> None:
        """Send a frame, for which there is room."""
        ...

    def post(self, kind: FrameType, stream: int, payload: bytes = b"") -> None:
        """Send a small frame, as soon as there is room."""
        ...

    async def progress(self) -> None:
        """Wait until the guest has taken something. Raises what ended the session."""
        ...

    def forget(self, stream: int) -> None:
        """Take no more frames of a stream, which is over."""
        ...


class Stream:
    """Opened by ``Link.open``. One task may send while another receives.

    what: begins the Failure that is raised when the guest refuses.
    """

    def __init__(self, carrier: Carrier, number: int, what: str) -> None:
        """Prepare a stream that has been opened at the other end."""
        self._carrier = carrier
        self.number = number
        self.what = what
        self.over = False
        """Whether its last frame has come."""
        self._credit = WINDOW
        self._frames: deque[tuple[int, bytes | bytearray]] = deque()
        self._waiting = 0
        self._owed = 0
        self._seen: set[int] = set()
        self._waiter: asyncio.Future[None] | None = None

    async def send(self, data: bytes) -> None:
        """Send bytes, as fast as whoever reads them does. Raises Failure if the session ends.

        What nobody reads any more is dropped.
        """
        view = memoryview(data)
        while view and (room := await self.writable()):
            size = min(len(view), room)
            self._carrier.send(FrameType.INPUT, self.number, bytes(view[:size]))
            self._credit -= size
            view = view[size:]

    async def send_message(self, data: bytes) -> None:
        """Send bytes that belong together, of at most FRAME_MAX, in one frame."""
        self._carrier.check()
        while not self.over and min(self._credit, self._carrier.room) < len(data):
            await self._carrier.progress()
        if not self.over:
            self._carrier.send(FrameType.INPUT, self.number, data)
            self._credit -= len(data)

    async def writable(self) -> int:
        """Wait until something can be sent and return how many bytes; 0 if the stream is over."""
        self._carrier.check()
        while not self.over:
            room = min(self._credit, self._carrier.room, PART)
            if room > 0:
                return room
            await self._carrier.progress()
        return 0

    def end_input(self) -> None:
        """Say that nothing more will be sent."""
        self.post(FrameType.INPUT_END)

    def post(self, kind: FrameType, payload: bytes = b"") -> None:
        """Send a small frame."""
        if not self.over:
            self._carrier.post(kind, self.number, payload)

    def signal(self, number: int) -> None:
        """Send a signal to the command and what it runs in the foreground."""
        self.post(FrameType.SIGNAL, struct.pack("<I", number))

    def cancel(self) -> None:
        """End whatever still goes on; frames that still come are dropped."""
        self.post(FrameType.CANCEL)
        self.over = True
        self._carrier.forget(self.number)

    async def receive(self) -> Frame:
        """Wait for what comes next; EXIT comes last.

        Raises Failure if the guest says it failed, or the session ends.
        """
        while not self._frames:
            self._carrier.check()
            if self.over:
                raise Failure(self.what, "it is over")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        kind, payload = self._frames.popleft()
        if kind in DATA:
            self._waiting -= len(payload)
            self._give_credit(len(payload))
        if kind == FrameType.FAILED:
            raise Failure(self.what, printable(bytes(payload)))
        return Frame(kind, self.number, bytes(payload))

    def take(self, kind: int, payload: bytes) -> None:
        """Take a frame that has come. Raises Failure if an honest guest would not send it."""
        if self.over:
            return
        if kind == FrameType.CREDIT and len(payload) == 4:
            self._credit += int.from_bytes(payload, "little")
            if self._credit > WINDOW:
                raise Spoiled
            return
        if kind in DATA:
            if self._waiting + self._owed + len(payload) > WINDOW:
                raise Spoiled
            self._keep(kind, payload)
        elif kind in ONCE and kind not in self._seen:
            self._seen.add(kind)
            self._frames.append((kind, payload))
        elif kind in LAST:
            self.over = True
            self._frames.append((kind, payload))
        else:
            raise Spoiled
        self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _keep(self, kind: int, payload: bytes) -> None:
        self._waiting += len(payload)
        if not payload:
            return
        if self._frames and self._frames[-1][0] == kind and len(self._frames[-1][1]) < MERGED:
            last = self._frames.pop()[1]
            if not isinstance(last, bytearray):
                last = bytearray(last)
            last += payload
            self._frames.append((kind, last))
        else:
            self._frames.append((kind, payload))

    def _give_credit(self, size: int) -> None:
        self._owed += size
        if self._owed >= WINDOW // 4:
            self.post(FrameType.CREDIT, struct.pack("<I", self._owed))
            self._owed = 0


def status_of(frame: Frame) -> int:
    """Return the status that an EXIT tells."""
    return int.from_bytes(frame.payload[:1], "little")


assert PART <= FRAME_MAX
