"""A session: the tools go in, one command runs, bytes go to and fro, everything is cleaned up."""

from __future__ import annotations

import os
import secrets
import select
import signal
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mizzen.host import cpio
from mizzen.host.cpio import Entry
from mizzen.introspection.target import Guest
from mizzen.model.errors import Failure

from . import channel
from .channel import FRAME_MAX, Channel, FrameType, Size
from .escape import Escape
from .inject import entry

ENVIRONMENT = [
    "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin",
    "HOME=/root",
    "PS1=\\h:\\w\\$ ",
]
SILENT_SECONDS = 30
"""How long stage 2 may show no sign of life before the session counts as lost."""
CLOSE_SECONDS = 5
BEAT_MS = 1000
SIGNAL_ROOM = 4
"""Bytes of a frame that passes a signal or a size on."""
INPUT_CHUNK = 16384
LEFT = 255
"""Status of a command that the user left running by the escape, as ssh has it."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Where input comes from and output goes to: file descriptors.

    terminal: the size of the terminal that all three are; None for pipes and files.
    """

    input: int
    output: int
    errors: int
    terminal: Size | None = None


@dataclass(slots=True)
class Session:
    """One command in a guest. Made by ``opened``."""

    guest: Guest
    channel: Channel
    _lively: float = field(default_factory=time.monotonic)
    _guest_beat: int = -1
    _escape: Escape = field(default_factory=Escape)
    _idle_since: float = 0.0

    def send_tools(self, tools: Iterable[Entry]) -> None:
        """Send the tools' file system. Raises Failure if they do not fit."""
        for record in cpio.archive(tools):
            for start in range(0, len(record), FRAME_MAX):
                self._send(FrameType.TOOLS, record[start : start + FRAME_MAX])

    def run(self, arguments: list[str], environment: list[str], streams: Streams) -> int:
        """Run a command to its end and return its status as a shell shows it.

        Raises Failure if the guest or the session dies before.
        """
        payload = channel.start_payload(arguments, ENVIRONMENT + environment, streams.terminal)
        if len(payload) > FRAME_MAX:
            raise Failure("cannot run the command", "it has more than 32 KiB of arguments")
        if len(arguments) + len(ENVIRONMENT) + len(environment) > channel.STRINGS_MAX:
            raise Failure("cannot run the command", "it has more than 1000 arguments")
        self._send(FrameType.START, payload)
        with _wakeup() as (wakeup, seen):
            return self._pump(streams, wakeup, seen)

    def close(self) -> None:
        """End whatever still runs, and wait until stage 2 has cleaned up."""
        deadline = time.monotonic() + CLOSE_SECONDS
        try:
            if self.channel.room:
                self.channel.send(FrameType.CLOSE)
            while not self.channel.ended and time.monotonic() < deadline:
                self._check()
                self.channel.receive()
                time.sleep(0.001)
        except (Failure, OSError):
            return  # then there is nothing left to clean up, or nobody to do it

    def _pump(self, streams: Streams, wakeup: int, seen: list[int]) -> int:
        poll = select.poll()
        poll.register(self.guest.pidfd, select.POLLIN)
        poll.register(wakeup, select.POLLIN)
        listening = False
        input_open = True
        while not self._escape.left:
            worked, status = self._take_frames(streams, seen)
            if status is not None:
                return status
            ready = input_open and min(self.channel.room, self.channel.input_room) >= INPUT_CHUNK
            if ready != listening:
                listening = ready
                if listening:
                    poll.register(streams.input, select.POLLIN)
                else:
                    poll.unregister(streams.input)
            for file, _ in poll.poll(self._patience(worked=worked)):
                if file == streams.input:
                    input_open = self._take_input(streams)
                    self._idle_since = 0
                elif file == wakeup:
                    os.read(wakeup, 64)
            self._take_signals(seen, streams)
            self._check()
        return LEFT

    def _take_frames(self, streams: Streams, seen: list[int]) -> tuple[bool, int | None]:
        """Pass on what has come: whether anything had, and the command's status if it ended."""
        frames = self.channel.receive()
        for kind, payload in frames:
            if kind == FrameType.OUTPUT:
                self._write(streams.output, payload, seen)
            elif kind == FrameType.ERRORS:
                self._write(streams.errors, payload, seen)
            elif kind == FrameType.EXIT:
                return True, int.from_bytes(payload[:1], "little")
            elif kind == FrameType.FAILED:
                raise _refusal(payload)
        return bool(frames), None

    def _write(self, file: int, data: bytes, seen: list[int]) -> None:
        """Write all of it, however long the reader pauses, and stay alive to stage 2 meanwhile."""
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        while data:
            if poll.poll(BEAT_MS):
                data = data[os.write(file, data[: select.PIPE_BUF]) :]  # so much never blocks
                continue
            self._check()
            if any(number != signal.SIGWINCH for number in seen):
                raise KeyboardInterrupt

    def _take_input(self, streams: Streams) -> bool:
        """Pass input on; False once it has ended."""
        try:
            data = os.read(streams.input, INPUT_CHUNK)
        except OSError:  # a terminal that was hung up
            data = b""
        if not data:
            self.channel.send(FrameType.INPUT_END)
            return False
        if streams.terminal is not None:
            data = self._escape.filter(data)
        if data:
            self.channel.send(FrameType.INPUT, data)
            self.channel.input_sent += len(data)
        return True

    def _take_signals(self, seen: list[int], streams: Streams) -> None:
        """Pass signals on as far as there is room; the rest waits for the next round."""
        if any(number in {signal.SIGTERM, signal.SIGHUP} for number in seen):
            raise KeyboardInterrupt
        while seen and self.channel.room >= SIGNAL_ROOM:
            number = seen.pop(0)
            if number == signal.SIGWINCH:
                if streams.terminal is not None:
                    self.channel.send(FrameType.RESIZE, terminal_size(streams.input).pack())
            else:
                self.channel.send(FrameType.SIGNAL, struct.pack("<I", number))

    def _patience(self, *, worked: bool) -> float:
        """Return milliseconds to sleep: the longer nothing happens, the longer."""
        now = time.monotonic()
        if worked or not self._idle_since:
            self._idle_since = now
        idle = now - self._idle_since
        if idle < 0.001:
            return 0
        if idle < 1:
            return 1
        return 5 if idle < 10 else 20

    def _send(self, kind: FrameType, payload: bytes = b"") -> None:
        """Send a frame, waiting for room, before the command runs and has anything to say.

        Raises Failure if stage 2 fails meanwhile.
        """
        while self.channel.room < len(payload):
            for got, text in self.channel.receive():
                if got == FrameType.FAILED:
                    raise _refusal(text)
            self._check()
            time.sleep(0.0005)
        self.channel.send(kind, payload)

    def _check(self) -> None:
        """Tell stage 2 that we live, and see that it and the hypervisor do."""
        self.guest.check()
        self.channel.beat()
        beat, now = self.channel.guest_beat, time.monotonic()
        if beat != self._guest_beat:
            self._guest_beat, self._lively = beat, now
        elif now - self._lively > SILENT_SECONDS:
            raise Failure(
                "the session is over",
                f"the guest has not answered for {SILENT_SECONDS} s: paused, hung or out of memory",
            )


@contextmanager
def opened(guest: Guest) -> Iterator[Session]:
    """Start stage 2 in a guest; leave the guest as it was at the end, whatever happens.

    Raises Failure if it cannot be entered.
    """
    token = secrets.token_hex(16)
    arrival = entry.start(guest.kernel, token, guest.check)
    frames = channel.frames_of(arrival.hello)
    session = Session(guest, Channel(guest.kernel.memory, frames, token))
    try:
        yield session
    finally:
        session.close()
        arrival.settle()


def terminal_size(file: int) -> Size:
    """Return the size of the terminal that a file descriptor is."""
    size = os.get_terminal_size(file)
    return Size(size.lines, size.columns)


@contextmanager
def _wakeup() -> Iterator[tuple[int, list[int]]]:
    """Turn signals into something poll sees: a descriptor, and the list they are put into."""
    seen: list[int] = []
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    numbers = (signal.SIGWINCH, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, lambda number, _: seen.append(number)) for n in numbers}
    previous = signal.set_wakeup_fd(writer)
    try:
        yield reader, seen
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _refusal(payload: bytes) -> Failure:
    """Return what stage 2 said, as one line that cannot play tricks on a terminal."""
    text = payload[:200].decode(errors="replace")
    why = "".join(c if c.isprintable() else " " for c in text)
    fix = "bring smaller tools" if "the tools" in why else ""
    return Failure("cannot attach", why, fix)
