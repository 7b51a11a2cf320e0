"""The memory protocol: guest RAM by physical address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

PAGE = 4096


class PhysicalMemory(Protocol):
    """A guest's RAM. Addresses and sizes are in bytes; addresses are guest-physical."""

    size: int
    """Bytes of RAM, which lie at 0 to size."""

    def read(self, address: int, size: int) -> bytes:
        """Return exactly size bytes. Raises BadAddress if any of them is no RAM."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write data. Raises BadAddress if any of it would fall outside RAM."""
        ...

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield (address, size) of the parts that exist; the rest was never touched.

        Looking at what exists only keeps a search from making the hypervisor grow.
        """
        ...


class BadAddress(ValueError):  # noqa: N818 - it is the address that is bad
    """An address that the guest gave, or that was computed from what it gave, is no RAM."""


def check_range(memory_size: int, address: int, size: int) -> None:
    """Raise BadAddress unless address to address + size lies in RAM."""
    if address < 0 or size < 0 or address + size > memory_size:
        raise BadAddress(f"{address:#x}+{size:#x} is outside of {memory_size:#x} bytes of RAM")


def read_word(memory: PhysicalMemory, address: int) -> int:
    """Return the 64-bit word at address."""
    return int.from_bytes(memory.read(address, 8), "little")


def write_word(memory: PhysicalMemory, address: int, value: int) -> None:
    """Write an aligned 64-bit word, which the guest sees change at once."""
    memory.write(address, value.to_bytes(8, "little"))
