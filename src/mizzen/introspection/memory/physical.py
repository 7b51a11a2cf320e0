"""The memory protocol: guest RAM by physical address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

PAGE = 4096


class Range(NamedTuple):
    """A stretch of addresses: where it begins and its length in bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.size


class PhysicalMemory(Protocol):
    """A guest's RAM. Addresses and sizes are in bytes; addresses are guest-physical."""

    ranges: tuple[Range, ...]
    """Where RAM is: ascending, without overlap."""

    def read(self, address: int, size: int) -> bytes:
        """Return exactly size bytes. Raises BadAddress if any of them is no RAM."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write data. Raises BadAddress if any of it would fall outside RAM."""
        ...

    def blocks(self) -> Iterator[Range]:
        """Yield the parts that exist, ascending; the rest was never touched and reads as zeros.

        Looking at what exists only keeps a search from making the hypervisor grow.
        """
        ...


class BadAddress(ValueError):  # noqa: N818 - it is the address that is bad
    """An address that the guest gave, or that was computed from what it gave, is no RAM."""


def check_range(ranges: Iterable[Range], address: int, size: int) -> None:
    """Raise BadAddress unless address to address + size lies in one of the ranges."""
    if size < 0 or not any(r.start <= address and address + size <= r.end for r in ranges):
        raise BadAddress(f"{address:#x}+{size:#x} is no RAM of the guest")


def read_word(memory: PhysicalMemory, address: int) -> int:
    """Return the 64-bit word at address."""
    return int.from_bytes(memory.read(address, 8), "little")


def write_word(memory: PhysicalMemory, address: int, value: int) -> None:
    """Write an aligned 64-bit word, which the guest sees change at once."""
    memory.write(address, value.to_bytes(8, "little"))
