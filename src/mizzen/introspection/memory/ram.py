"""Guest RAM put together from what a hypervisor has mapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from .physical import BadAddress, Range


class Source(Protocol):
    """One mapping of a hypervisor, by offset in bytes from its beginning."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly size bytes."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Write data; eight aligned bytes in one store."""
        ...

    def blocks(self) -> Iterator[Range]:
        """Yield the parts that exist, ascending."""
        ...

    def close(self) -> None:
        """Give back what is held open."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """RAM at some physical addresses, and where in a source its bytes are."""

    range: Range
    source: Source
    offset: int


class GuestMemory:
    """RAM in one or several parts; see ``PhysicalMemory``."""

    def __init__(self, parts: Iterable[Part]) -> None:
        """Put parts together. They may come in any order and must not overlap."""
        self._parts = sorted(parts, key=lambda part: part.range.start)
        self.ranges = _joined(part.range for part in self._parts)

    def read(self, address: int, size: int) -> bytes:
        """See ``PhysicalMemory``."""
        pieces = [part.source.read(at, length) for part, at, length in self._pieces(address, size)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, address: int, data: bytes) -> None:
        """See ``PhysicalMemory``."""
        done = 0
        for part, at, length in self._pieces(address, len(data)):
            part.source.write(at, data[done : done + length])
            done += length

    def blocks(self) -> Iterator[Range]:
        """See ``PhysicalMemory``."""
        for part in self._parts:
            for block in part.source.blocks():
                start = max(block.start, part.offset)
                end = min(block.end, part.offset + part.range.size)
                if start < end:
                    yield Range(part.range.start + start - part.offset, end - start)

    def _pieces(self, address: int, size: int) -> list[tuple[Part, int, int]]:
        pieces = []
        position, left = address, size
        for part in self._parts:
            if size >= 0 and part.range.start <= position < part.range.end:
                length = min(left, part.range.end - position)
                pieces.append((part, part.offset + position - part.range.start, length))
                position += length
                left -= length
                if not left:
                    return pieces
        raise BadAddress(f"{address:#x}+{size:#x} is no RAM of the guest")


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for following in ranges:
        if joined and joined[-1].end == following.start:
            joined[-1] = Range(joined[-1].start, joined[-1].size + following.size)
        else:
            joined.append(following)
    return tuple(joined)
