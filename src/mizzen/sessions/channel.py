"""The channel from outside: two rings in stage 2's memory, and the frames they carry.

Mirrors guest/attach/channel.h. Everything read here was written by the guest and is checked: a
lying guest can spoil its own session and nothing else.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from mizzen.introspection.memory.physical import (
    PAGE,
    PhysicalMemory,
    check_range,
    read_word,
    write_word,
)
from mizzen.model.errors import Failure

VERSION = 2
RING_PAGES = 128
RING_SIZE = RING_PAGES * PAGE
PAGES = 2 + 2 * RING_PAGES
FRAME_MAX = 132 * 1024
WINDOW = 256 * 1024
STREAMS_MAX = 64

HELLO = struct.Struct("<II32sQQ")
HEADER = struct.Struct("<32sII")
LIST = struct.Struct(f"<{PAGES}Q")
FRAME = struct.Struct("<III")
GUEST = struct.Struct("<4Q")

HOST_BEAT, TO_GUEST_WRITTEN, TO_HOST_READ = 64, 72, 80
GUEST_BEAT, TO_GUEST_READ, TO_HOST_WRITTEN, ENDED = 128, 136, 144, 152
TO_GUEST, TO_HOST = 2, 2 + RING_PAGES
"""The first pages of the rings."""


class FrameType(IntEnum):
    """What a frame carries: enum frame_type."""

    SETUP = 1
    CLOSE = 2
    TOOLS = 3
    RUN = 4
    PUT = 5
    GET = 6
    CONNECT = 7
    SERVE = 8
    INPUT = 9
    INPUT_END = 10
    RESIZE = 11
    SIGNAL = 12
    CANCEL = 13
    CREDIT = 14
    READY = 32
    OUTPUT = 33
    OUTPUT_END = 34
    ERRORS = 35
    ERRORS_END = 36
    EXIT = 37
    FAILED = 38


class Frame(NamedTuple):
    """A frame that has come. kind: a FrameType, unless the guest says something unknown."""

    kind: int
    stream: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """Where stage 2 says its channel is: two addresses of pages, in bytes."""

    header: int
    list: int


def read_hello(data: bytes) -> Hello:
    """Return what a hello tells. Raises Failure if stage 2 says it failed."""
    if len(data) < HELLO.size:
        raise Failure("cannot attach", "stage 2 said hello in an unknown way")
    error, pages, failed, header, pages_list = HELLO.unpack_from(data)
    if error or pages != PAGES:
        step = printable(failed.split(b"\0")[0]) or "stage 2"
        hint = " (CONFIG_PROC_PAGE_MONITOR)" if "pagemap" in step else ""
        reason = os.strerror(error) if 0 < error < 4096 else f"error {error}"
        raise Failure("cannot attach", f"{step}{hint} failed in the guest: {reason}")
    return Hello(header * PAGE, pages_list * PAGE)


def printable(text: bytes) -> str:
    """Return what the guest says as one line that cannot play tricks on a terminal."""
    shown = text[:300].decode(errors="replace")
    return "".join(c if c.isprintable() else " " for c in shown).strip()


class Spoiled(Failure):
    """What an honest stage 2 never does, if the memory is still its own."""

    def __init__(self) -> None:
        super().__init__("the session is over", "the guest spoiled its channel")


class Channel:
    """One session's rings. Not for several threads."""

    def __init__(self, memory: PhysicalMemory, hello: Hello, token: str) -> None:
        """Open the channel that a hello tells of. Raises Failure if there is none."""
        self._memory = memory
        self._header = hello.header
        for page in (hello.header, hello.list):
            check_range(memory.ranges, page, PAGE)
        self._token = HEADER.pack(token.encode(), VERSION, RING_PAGES)
        if not self.there:
            raise Failure("cannot attach", "stage 2's channel is not where it said")
        self._pages = [frame * PAGE for frame in LIST.unpack(memory.read(hello.list, LIST.size))]
        for page in self._pages:
            check_range(memory.ranges, page, PAGE)
        self._beat = self._written = self._read = 0
        self._guest_beat = self._taken = self._available = self._ended = 0

    @property
    def there(self) -> bool:
        """Whether the session's mark is still in the channel: not so once the guest rebooted."""
        return self._memory.read(self._header, HEADER.size) == self._token

    def beat(self) -> None:
        """Tell stage 2 that the host is there; due every few seconds."""
        self._beat += 1
        self._set(HOST_BEAT, self._beat)

    def look(self) -> None:
        """See how far stage 2 is. Raises Failure if its counters cannot be."""
        words = GUEST.unpack(self._memory.read(self._header + GUEST_BEAT, GUEST.size))
        self._guest_beat, self._taken, written, self._ended = words
        self._available = written - self._read
        if (
            not 0 <= self._available <= RING_SIZE
            or not 0 <= self._written - self._taken <= RING_SIZE
        ):
            raise Spoiled

    @property
    def guest_beat(self) -> int:
        """A number that changes while stage 2 is there, as of the last look."""
        return self._guest_beat

    @property
    def taken(self) -> int:
        """How many bytes stage 2 has ever taken, as of the last look."""
        return self._taken

    @property
    def ended(self) -> bool:
        """Whether stage 2 had nothing more to send at the last look."""
        return self._ended != 0 and not self._available

    @property
    def room(self) -> int:
        """Bytes of payload that a frame sent now may have."""
        used = self._written - self._taken
        return max(0, min(RING_SIZE - used - FRAME.size, FRAME_MAX))

    def send(self, kind: FrameType, stream: int, payload: bytes = b"") -> None:
        """Send a frame whose payload is no larger than ``room``."""
        assert len(payload) <= self.room
        self._copy_in(self._written, FRAME.pack(kind, stream, len(payload)) + payload)
        self._written += FRAME.size + len(payload)
        self._set(TO_GUEST_WRITTEN, self._written)

    def receive(self) -> list[Frame]:
        """Look, and return the frames that have come.

        Raises Failure if the guest wrote what cannot be.
        """
        self.look()
        if not self._available:
            return []
        # Twice the same word, lest half of a counter that is just being written counts.
        available = min(
            self._available, read_word(self._memory, self._header + TO_HOST_WRITTEN) - self._read
        )
        if available < FRAME.size:
            return []
        data = self._copy_out(self._read, available)
        frames = []
        position = 0
        while len(data) - position >= FRAME.size:
            kind, stream, size = FRAME.unpack_from(data, position)
            if size > FRAME_MAX:
                raise Spoiled
            end = position + FRAME.size + size
            if end > len(data):
                break
            frames.append(Frame(kind, stream, data[position + FRAME.size : end]))
            position = end
        self._read += position
        self._available -= position
        self._set(TO_HOST_READ, self._read)
        return frames

    def _set(self, offset: int, value: int) -> None:
        write_word(self._memory, self._header + offset, value)

    def _pieces(self, first_page: int, position: int, size: int) -> list[tuple[int, int]]:
        """Return (physical address, length) of a stretch of a ring, which may wrap."""
        pieces = []
        while size > 0:
            offset = position % RING_SIZE
            length = min(size, PAGE - offset % PAGE)
            pieces.append((self._pages[first_page + offset // PAGE] + offset % PAGE, length))
            position += length
            size -= length
        return pieces

    def _copy_in(self, position: int, data: bytes) -> None:
        done = 0
        for address, length in self._pieces(TO_GUEST, position, len(data)):
            self._memory.write(address, data[done : done + length])
            done += length

    def _copy_out(self, position: int, size: int) -> bytes:
        pieces = self._pieces(TO_HOST, position, size)
        return b"".join(self._memory.read(address, length) for address, length in pieces)
