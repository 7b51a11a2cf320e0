"""Walk x86-64 page tables of four or five levels.

Source: Intel SDM volume 3, chapter 4.5; AMD APM volume 2, chapter 5.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from mizzen.introspection.memory.physical import BadAddress, PhysicalMemory, read_word

PRESENT = 1 << 0
LARGE = 1 << 7
NO_EXECUTE = 1 << 63
FRAME = 0x000F_FFFF_FFFF_F000
ENTRIES = 512
_SHIFTS = (48, 39, 30, 21, 12)


@dataclass(frozen=True, slots=True)
class Page:
    """Where a virtual address leads: the physical address, and whether code may run there."""

    address: int
    executable: bool


@dataclass(frozen=True, slots=True)
class PageTables:
    """One address space. root: physical address of the top table. levels: 4 or 5."""

    memory: PhysicalMemory
    root: int
    levels: int

    def look_up(self, virtual: int) -> Page | None:
        """Return what a virtual address leads to, None if nothing is mapped there.

        Raises BadAddress if a table or the page itself is no RAM.
        """
        table = self.root & FRAME
        executable = True
        for shift in _SHIFTS[-self.levels :]:
            index = (virtual >> shift) & (ENTRIES - 1)
            entry = read_word(self.memory, table + index * 8)
            if not entry & PRESENT:
                return None
            executable &= not entry & NO_EXECUTE
            table = entry & FRAME
            if shift == 12 or (entry & LARGE and shift in {21, 30}):
                offset = (1 << shift) - 1
                return Page((table & ~offset) | (virtual & offset), executable)
        raise AssertionError("the last level always returns")

    def physical(self, virtual: int) -> int:
        """Return the physical address. Raises BadAddress if nothing is mapped there."""
        page = self.look_up(virtual)
        if page is None:
            raise BadAddress(f"{virtual:#x} is not mapped in the guest")
        return page.address

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
