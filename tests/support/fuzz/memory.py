"""Memory that notices what reads or writes outside of it, and damage done to it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ram import Ram

from mizzen.introspection.memory.physical import Range

PATCH = struct.Struct("<BIB")
"""Repeat and alignment, place, size of the bytes that follow."""
PATCHES_MAX = 64
ALIGNED, HOT, POINTER = 1 << 5, 1 << 6, 1 << 7


class Outside(BaseException):
    """Something was to be read or written where there is no guest."""


class Mapping:
    """A hypervisor's mapping (``memory.ram.Source``): whoever asks must have checked before."""

    def __init__(self, data: bytearray, *, writable: bool = False) -> None:
        self.data = data
        self.size = len(data)
        self.writable = writable

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        if not self.writable:
            raise Outside("whoever only looks has written")
        self.data[offset : offset + len(data)] = data

    def blocks(self) -> Iterator[Range]:
        yield Range(0, self.size)

    def close(self) -> None:
        """Nothing is open."""

    def _check(self, offset: int, size: int) -> None:
        if not 0 <= offset <= offset + size <= self.size:
            raise Outside(f"{offset:#x}+{size:#x} of {self.size:#x}")


class Checked(Ram):
    """``PhysicalMemory`` that must refuse by itself what lies outside."""

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self.data[:] = data

    def write(self, address: int, data: bytes) -> None:
        super().write(address, data)
        if len(self.data) != self.ranges[0].size:
            raise Outside(f"{len(data)} bytes at {address:#x}")


def patch(data: bytearray, changes: bytes, hot: Range | None = None, virtual: int = 0) -> None:
    """Do damage: each change is a place, how often, and bytes.

    The lower five bits of the first byte say how often, as a power of two; ALIGNED makes the place
    a multiple of 8, HOT puts it where most is, POINTER takes the bytes for a place there too and
    writes a pointer to it.
    hot: where most is; virtual: the address at which the data begins.
    """
    hot = hot or Range(0, len(data))
    at = 0
    for _ in range(PATCHES_MAX):
        if at + PATCH.size > len(changes):
            return
        how, place, size = PATCH.unpack_from(changes, at)
        piece = changes[at + PATCH.size : at + PATCH.size + size]
        at += PATCH.size + size
        place = hot.start + place % hot.size if how & HOT else place % len(data)
        if how & POINTER:
            to = hot.start + int.from_bytes(piece[:4], "little") % hot.size
            piece = (virtual + to & -8).to_bytes(8, "little")
        if how & ALIGNED:
            place &= ~7
        room = len(data) - place
        if piece:
            whole = (piece * min(1 << (how & 31), room // len(piece) + 1))[:room]
            data[place : place + len(whole)] = whole


def change(place: int, piece: bytes, times: int = 0) -> bytes:
    """Return a change as ``patch`` reads it; times: a power of two."""
    return PATCH.pack(times, place, len(piece)) + piece
