"""The link: one task that moves frames between the channel and the streams of a session.

The guest cannot wake us, so we look, the more seldom the longer nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque

from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.target import Guest
from mizzen.model.errors import Failure

from .channel import Channel, Frame, FrameType, Spoiled, printable
from .fate import Vitals
from .stream import Stream

BEAT_SECONDS = 1.0
QUIET_SECONDS = 3.0
"""How long stage 2 may show no sign of life until we look for a reason."""
SILENT_SECONDS = 30.0
"""How long it may show none before the session counts as lost."""
CLOSE_SECONDS = 5.0
SPIN_SECONDS = 0.0003
"""How long we look without a pause: an answer follows a question."""
NAPS_SECONDS = 0.01
NAP_SECONDS = 0.00003
"""Then with pauses shorter than the loop's timers can be, in which the hypervisor gets the CPU."""
PATIENCE = ((0.4, 0.001), (2.0, 0.005), (10.0, 0.02))
"""Pairs: up to how many seconds without anything to do we look how often, in seconds."""
IDLE_SECONDS = 0.1

SESSION = 0
"""The number that frames of the session itself carry."""


class Link:
    """Carries a session's streams. ``closed`` ends it."""

    def __init__(self, guest: Guest, channel: Channel) -> None:
        """Begin to carry, in a task of the running loop."""
        self._guest = guest
        self._channel = channel
        self._vitals = Vitals(guest.kernel)
        self._streams: dict[int, Stream] = {}
        self._last = SESSION
        self._outbox: deque[tuple[FrameType, int, bytes]] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._sleeper: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        now = time.monotonic()
        self._active = self._lively = self._checked = now
        self._seen_beat = -1
        self._loop = asyncio.get_running_loop()
        self.session = Stream(self, SESSION, "cannot attach")
        """What stage 2 says of the session itself."""
        self._loop.add_reader(guest.pidfd, self._gone)
        self._task = self._loop.create_task(self._pump())

    @property
    def room(self) -> int:
        """See ``Carrier``."""
        return self._channel.room

    def check(self) -> None:
        """See ``Carrier``."""
        if self._failure is not None:
            raise self._failure

    def send(self, kind: FrameType, stream: int, payload: bytes) -> None:
        """See ``Carrier``."""
        try:
            self._channel.send(kind, stream, payload)
        except (Failure, BadAddress, OSError) as error:
            self._fail(error)
            self.check()
        self._stir()

    def post(self, kind: FrameType, stream: int, payload: bytes = b"") -> None:
        """See ``Carrier``."""
        self._outbox.append((kind, stream, payload))
        self._stir()

    def forget(self, stream: int) -> None:
        """See ``Carrier``."""
        self._streams.pop(stream, None)

    async def progress(self) -> None:
        """See ``Carrier``."""
        self.check()
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter
        self.check()

    async def open(self, kind: FrameType, payload: bytes, what: str) -> Stream:
        """Open a stream. Raises Failure if the session has ended; a refusal comes as a frame."""
        self.check()
        while self._channel.room < len(payload) or self._outbox:
            await self.progress()
        self._last += 1
        stream = self._streams[self._last] = Stream(self, self._last, what)
        self.send(kind, stream.number, payload)
        return stream

    async def ended(self) -> None:
        """Wait until the session ends by itself, and raise why."""
        while True:
            await self.progress()

    async def close(self) -> None:
        """End what still runs, wait until stage 2 has cleaned up, and stop."""
        deadline = time.monotonic() + CLOSE_SECONDS
        self._outbox.clear()
        for stream in self._streams.values():
            stream.over = True
        self.post(FrameType.CLOSE, SESSION)
        while self._failure is None and not self._channel.ended and time.monotonic() < deadline:
            self._stir()
            await asyncio.sleep(0.001)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._fail(Failure("the session is over", "it has been closed"))

    async def _pump(self) -> None:
        try:
            while True:
                if self._step():
                    self._active = time.monotonic()
                await self._sleep()
        except Spoiled as error:  # or somebody else has the memory by now
            self._fail(self._reason(error) or error)
        except (Failure, BadAddress, OSError) as error:
            self._fail(error)

    def _reason(self, otherwise: Failure | None) -> Failure | None:
        """Return why the guest stopped, if that can be seen."""
        reason = self._vitals.reason()
        if reason is None and not self._channel.there:
            reason = "the guest has rebooted"
        return otherwise if reason is None else Failure("the session is over", reason)

    def _step(self) -> bool:
        """Take what has come, and send what could not be sent; whether there was anything."""
        taken = self._channel.taken
        frames = self._channel.receive()
        for frame in frames:
            self._dispatch(frame)
        moved = self._flush() or bool(frames) or self._channel.taken != taken
        if moved:
            self._wake_waiters()
        now = time.monotonic()
        if now - self._checked >= BEAT_SECONDS:
            self._checked = now
            self._look_for_life(now)
        return moved

    def _dispatch(self, frame: Frame) -> None:
        stream = self.session if frame.stream == SESSION else self._streams.get(frame.stream)
        if stream is None:
            return  # it was cancelled
        stream.take(frame.kind, frame.payload)
        if stream is self.session and frame.kind == FrameType.FAILED:
            raise Failure("the session is over", printable(frame.payload))
        if stream.over:
            self.forget(stream.number)

    def _flush(self) -> bool:
        """Send what was posted, as far as there is room; whether there was anything."""
        flushed = False
        while self._outbox and self._channel.room >= len(self._outbox[0][2]) + 1:
            self._channel.send(*self._outbox.popleft())
            flushed = True
        return flushed

    def _look_for_life(self, now: float) -> None:
        self._channel.beat()
        if self._channel.guest_beat != self._seen_beat:
            self._seen_beat, self._lively = self._channel.guest_beat, now
            return
        silent = now - self._lively
        if silent < QUIET_SECONDS:
            return
        lost = None
        if silent > SILENT_SECONDS:
            lost = Failure(
                "the session is over",
                f"the guest has not answered for {SILENT_SECONDS:.0f} s:"
                " paused, hung or out of memory",
            )
        failure = self._reason(lost)
        if failure is not None:
            raise failure

    async def _sleep(self) -> None:
        idle = time.monotonic() - self._active
        if idle < NAPS_SECONDS:
            if idle < SPIN_SECONDS:
                os.sched_yield()  # the hypervisor may need this very CPU to answer
            else:
                time.sleep(NAP_SECONDS)  # noqa: ASYNC251 - shorter than the loop could
            await asyncio.sleep(0)
            return
        delay = next((delay for until, delay in PATIENCE if idle < until), IDLE_SECONDS)
        self._sleeper = self._loop.create_future()
        timer = self._loop.call_later(delay, self._rouse)
        try:
            await self._sleeper
        finally:
            timer.cancel()
            self._sleeper = None

    def _rouse(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def _stir(self) -> None:
        """Look again soon: there is something to expect."""
        self._active = time.monotonic()
        self._rouse()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _gone(self) -> None:
        try:
            self._guest.check()
        except Failure as failure:
            self._fail(failure)

    def _fail(self, error: Exception) -> None:
        """End the session for everybody who waits, with the first reason there was."""
        self._loop.remove_reader(self._guest.pidfd)
        if self._failure is None and not isinstance(error, Failure):
            error = Failure("the session is over", f"what the guest tells leads nowhere: {error}")
        self._failure = self._failure or error
        self._rouse()
        self._wake_waiters()
        for stream in (self.session, *self._streams.values()):
            stream.wake()
