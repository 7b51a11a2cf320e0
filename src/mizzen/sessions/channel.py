"""The channel from outside: two rings in stage 2's memory, and the frames they carry.

Mirrors guest/attach/channel.h. Everything read here was written by the guest and is checked: a
lying guest can spoil its own session and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from mizzen.introspection.memory.physical import (
    PAGE,
    PhysicalMemory,
    check_range,
    read_word,
    write_word,
)
from mizzen.model.errors import Failure

VERSION = 1
RING_PAGES = 64
RING_SIZE = RING_PAGES * PAGE
PAGES = 1 + 2 * RING_PAGES
FRAME_MAX = 32768
INPUT_WINDOW = 256 * 1024
STRINGS_MAX = 1024

HELLO = struct.Struct(f"<II32s{PAGES}Q")
HEADER = struct.Struct("<32sII")
FRAME = struct.Struct("<II")

HOST_BEAT, GUEST_BEAT = 64, 128
INPUT_TAKEN, ENDED = 136, 144
TO_GUEST_WRITTEN, TO_GUEST_READ = 192, 256
TO_HOST_WRITTEN, TO_HOST_READ = 320, 384


class FrameType(IntEnum):
    """What a frame carries: enum frame_type."""

    TOOLS = 1
    START = 2
    INPUT = 3
    INPUT_END = 4
    RESIZE = 5
    SIGNAL = 6
    CLOSE = 7
    OUTPUT = 16
    ERRORS = 17
    EXIT = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's size in characters."""

    rows: int
    columns: int

    def pack(self) -> bytes:
        """Return it as struct size."""
        return struct.pack("<HH", min(self.rows, 0xFFFF), min(self.columns, 0xFFFF))


def start_payload(arguments: list[str], environment: list[str], terminal: Size | None) -> bytes:
    """Return the payload of START: what to run, and whether on a terminal of which size."""
    size = (terminal or Size(0, 0)).pack()
    counts = struct.pack("<II", len(arguments), len(environment))
    strings = b"".join(s.encode(errors="surrogateescape") + b"\0" for s in arguments + environment)
    return struct.pack("<I", terminal is not None) + size + counts + strings


def frames_of(hello: bytes) -> list[int]:
    """Return the page frame numbers in a hello. Raises Failure if stage 2 says it failed."""
    if len(hello) < HELLO.size:
        raise Failure("cannot attach", "stage 2 said hello in an unknown way")
    error, pages, failed, *frames = HELLO.unpack_from(hello)
    if error or pages != PAGES:
        step = failed.split(b"\0")[0].decode(errors="replace") or "stage 2"
        raise Failure("cannot attach", f"{step} failed in the guest: error {error}")
    return frames


class Channel:
    """One session's rings. Not for several threads."""

    def __init__(self, memory: PhysicalMemory, frames: list[int], token: str) -> None:
        """Open the channel on the pages of a hello. Raises Failure if they hold no channel."""
        self._memory = memory
        self._pages = [frame * PAGE for frame in frames]
        for page in self._pages:
            check_range(memory.ranges, page, PAGE)
        seen, version, ring_pages = HEADER.unpack(memory.read(self._pages[0], HEADER.size))
        if seen != token.encode() or (version, ring_pages) != (VERSION, RING_PAGES):
            raise Failure("cannot attach", "stage 2's channel is not where it said")
        self._written = 0
        self._read = 0
        self._beat = 0
        self.input_sent = 0

    def _get(self, offset: int) -> int:
        return read_word(self._memory, self._pages[0] + offset)

    def _set(self, offset: int, value: int) -> None:
        write_word(self._memory, self._pages[0] + offset, value)

    def beat(self) -> None:
        """Tell stage 2 that the host is there; due every few seconds."""
        self._beat += 1
        self._set(HOST_BEAT, self._beat)

    @property
    def guest_beat(self) -> int:
        """A number that changes while stage 2 is there."""
        return self._get(GUEST_BEAT)

    @property
    def ended(self) -> bool:
        """Whether stage 2 has nothing more to send."""
        return self._get(ENDED) != 0 and self._get(TO_HOST_WRITTEN) == self._read

    @property
    def input_room(self) -> int:
        """Bytes of input that stage 2 has room for."""
        taken = self._get(INPUT_TAKEN)
        return max(0, min(INPUT_WINDOW, INPUT_WINDOW - (self.input_sent - taken)))

    @property
    def room(self) -> int:
        """Bytes of payload that a frame sent now may have."""
        used = self._written - self._get(TO_GUEST_READ)
        if not 0 <= used <= RING_SIZE:
            raise Failure("the session is over", "the guest spoiled its channel")
        return max(0, min(RING_SIZE - used - FRAME.size, FRAME_MAX))

    def send(self, kind: FrameType, payload: bytes = b"") -> None:
        """Send a frame whose payload is no larger than ``room``."""
        assert len(payload) <= self.room
        self._copy_in(self._written, FRAME.pack(kind, len(payload)) + payload)
        self._written += FRAME.size + len(payload)
        self._set(TO_GUEST_WRITTEN, self._written)

    def receive(self) -> list[tuple[int, bytes]]:
        """Return the frames that have come, as (type, payload).

        Raises Failure if the guest wrote what cannot be.
        """
        available = self._get(TO_HOST_WRITTEN) - self._read
        if not available:
            return []
        if not 0 < available <= RING_SIZE:
            raise Failure("the session is over", "the guest spoiled its channel")
        data = self._copy_out(self._read, available)
        frames = []
        position = 0
        while len(data) - position >= FRAME.size:
            kind, size = FRAME.unpack_from(data, position)
            if size > FRAME_MAX:
                raise Failure("the session is over", "the guest spoiled its channel")
            end = position + FRAME.size + size
            if end > len(data):
                break
            frames.append((kind, data[position + FRAME.size : end]))
            position = end
        self._read += position
        self._set(TO_HOST_READ, self._read)
        return frames

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
        for address, length in self._pieces(1, position, len(data)):
            self._memory.write(address, data[done : done + length])
            done += length

    def _copy_out(self, position: int, size: int) -> bytes:
        pieces = self._pieces(1 + RING_PAGES, position, size)
        return b"".join(self._memory.read(address, length) for address, length in pieces)
