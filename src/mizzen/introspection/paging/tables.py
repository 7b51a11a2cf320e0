"""Walk x86-64 page tables of four or five levels.

Source: Intel SDM volume 3, chapter 4.5; AMD APM volume 2, chapter 5.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mizzen.introspection.memory.physical import BadAddress, PhysicalMemory, read_word

PRESENT = 1 << 0
WRITABLE = 1 << 1
LARGE = 1 << 7
NO_EXECUTE = 1 << 63
FRAME = 0x000F_FFFF_FFFF_F000
ENTRIES = 512
TABLE = struct.Struct(f"<{ENTRIES}Q")
_SHIFTS = (48, 39, 30, 21, 12)
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Page:
    """What a virtual address leads to: the physical address, and what may be done there."""

    address: int
    writable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring pages of one kind: virtual and physical address of the first, size in bytes."""

    virtual: int
    physical: int
    size: int
    writable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class PageTables:
    """One address space. root: physical address of the top table. levels: 4 or 5."""

    memory: PhysicalMemory
    root: int
    levels: int

    def look_up(self, virtual: int) -> Page | None:
        """Return what a virtual address leads to, None if nothing is mapped there.

        Raises BadAddress if a table is no RAM.
        """
        table = self.root & FRAME
        executable = writable = True
        for shift in _SHIFTS[-self.levels :]:
            index = (virtual >> shift) & (ENTRIES - 1)
            entry = read_word(self.memory, table + index * 8)
            if not entry & PRESENT:
                return None
            executable &= not entry & NO_EXECUTE
            writable &= bool(entry & WRITABLE)
            table = entry & FRAME
            if shift == 12 or (entry & LARGE and shift in {21, 30}):
                offset = (1 << shift) - 1
                return Page((table & ~offset) | (virtual & offset), writable, executable)
        raise AssertionError("the last level always returns")

    def physical(self, virtual: int) -> int:
        """Return the physical address. Raises BadAddress if nothing is mapped there."""
        page = self.look_up(virtual)
        if page is None:
            raise BadAddress(f"{virtual:#x} is not mapped in the guest")
        return page.address

    def first(self) -> Run | None:
        """Return the lowest page of the upper half, which is the kernel's; None if it is empty.

        Raises BadAddress if a table is no RAM.
        """
        table, virtual = self.root & FRAME, -1 << (9 * self.levels + 12)
        for shift in _SHIFTS[-self.levels :]:
            entries = TABLE.unpack(self.memory.read(table, TABLE.size))
            lowest = ENTRIES // 2 if table == self.root & FRAME else 0
            index = next((i for i in range(lowest, ENTRIES) if entries[i] & PRESENT), None)
            if index is None:
                return None
            entry = entries[index]
            virtual += index << shift
            table = entry & FRAME
            if shift == 12 or (entry & LARGE and shift in {21, 30}):
                size = 1 << shift
                writable, executable = bool(entry & WRITABLE), not entry & NO_EXECUTE
                return Run(virtual & _MASK, table & -size, size, writable, executable)
        raise AssertionError("the last level always returns")

    def read(self, virtual: int, size: int) -> bytes:
        """Read across pages. Raises BadAddress."""
        parts = [self.memory.read(at, length) for at, length in self._pieces(virtual, size)]
        return b"".join(parts)

    def write(self, virtual: int, data: bytes) -> None:
        """Write across pages. Raises BadAddress; then a part may have been written."""
        done = 0
        for at, length in self._pieces(virtual, len(data)):
            self.memory.write(at, data[done : done + length])
            done += length

    def _pieces(self, virtual: int, size: int) -> list[tuple[int, int]]:
        pieces = []
        while size > 0:
            length = min(size, 4096 - virtual % 4096)
            pieces.append((self.physical(virtual), length))
            virtual += length
            size -= length
        return pieces


def runs(memory: PhysicalMemory, table: int, shift: int, virtual: int) -> Iterator[Run]:
    """Yield what one table and those below it map, neighbours of one kind joined.

    table: its physical address. shift: 21 for a page directory, 12 for a page table.
    virtual: the address that its first entry stands for.
    Raises BadAddress if a table is no RAM.
    """
    last: Run | None = None
    for page in _mapped(memory, table, shift, virtual):
        if last is not None and _adjoin(last, page):
            size = last.size + page.size
            last = Run(last.virtual, last.physical, size, last.writable, last.executable)
            continue
        if last is not None:
            yield last
        last = page
    if last is not None:
        yield last


def _mapped(memory: PhysicalMemory, table: int, shift: int, virtual: int) -> Iterator[Run]:
    for index, entry in enumerate(TABLE.unpack(memory.read(table & FRAME, TABLE.size))):
        if not entry & PRESENT:
            continue
        start, size = virtual + (index << shift), 1 << shift
        if shift > 12 and not entry & LARGE:
            yield from _mapped(memory, entry & FRAME, shift - 9, start)
            continue
        physical = entry & FRAME & ~(size - 1)
        yield Run(start, physical, size, bool(entry & WRITABLE), not entry & NO_EXECUTE)


def _adjoin(one: Run, other: Run) -> bool:
    return (
        one.virtual + one.size == other.virtual
        and one.physical + one.size == other.physical
        and (one.writable, one.executable) == (other.writable, other.executable)
    )
