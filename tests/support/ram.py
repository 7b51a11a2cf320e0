"""Guest RAM in a bytearray."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mizzen.introspection.memory.physical import Range, check_range


class Ram:
    """See ``PhysicalMemory``."""

    def __init__(self, size: int) -> None:
        self.ranges = (Range(0, size),)
        self.data = bytearray(size)

    def read(self, address: int, size: int) -> bytes:
        check_range(self.ranges, address, size)
        return bytes(self.data[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        check_range(self.ranges, address, len(data))
        self.data[address : address + len(data)] = data

    def blocks(self) -> Iterator[Range]:
        yield from self.ranges

    def put(self, address: int, value: int) -> None:
        """Store a 64-bit word."""
        struct.pack_into("<Q", self.data, address, value)

    def word(self, address: int) -> int:
        return struct.unpack_from("<Q", self.data, address)[0]
