"""A Linux kernel found in RAM: its symbols and its address space."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from mizzen.introspection.memory.physical import BadAddress, PhysicalMemory, Range, read_word
from mizzen.introspection.paging.tables import FRAME, PageTables
from mizzen.model.errors import Failure

from . import kallsyms
from .kallsyms import KERNEL_MAP, Symbols

BANNER = b"Linux version "
ALIGN = 2 << 20
"""The kernel image lies at a multiple of this, virtually and physically: PHYSICAL_ALIGN."""
CHUNK = 16 << 20
SEARCH_SECONDS = 30
"""A hostile guest can fill its RAM with what looks like the beginning of a symbol table."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A running kernel.

    banner: as in /proc/version. physical_base: what phys_base holds: physical minus virtual
    address of the image, plus KERNEL_MAP. tables: its address space.
    """

    memory: PhysicalMemory
    symbols: Symbols
    banner: str
    physical_base: int
    tables: PageTables

    @property
    def release(self) -> str:
        """As ``uname -r`` says in the guest."""
        return self.banner.removeprefix(BANNER.decode()).split(" ", 1)[0]

    def physical(self, virtual: int) -> int:
        """Return where an address of the kernel image lies in RAM."""
        return virtual - KERNEL_MAP + self.physical_base

    def symbol(self, names: str) -> int:
        """Return a symbol's address. Raises Failure if the kernel has it under none of names."""
        address = self.symbols.address(names)
        if address is None:
            raise Failure(
                "cannot attach",
                f"the guest's kernel has no symbol {names.replace('|', ' or ')}",
                "use a kernel with CONFIG_KALLSYMS_ALL=y",
            )
        return address

    def read_image(self, start: str, end: str) -> tuple[int, bytes]:
        """Return the image between two symbols: its virtual address and its bytes."""
        first, last = self.symbol(start), self.symbol(end)
        return first, self.memory.read(self.physical(first), last - first)


def find(memory: PhysicalMemory) -> Kernel | None:
    """Find the running kernel, None if there is none."""
    blocks = list(memory.blocks())
    deadline = time.monotonic() + SEARCH_SECONDS
    for digits in _occurrences(memory, blocks, kallsyms.DIGITS):
        if time.monotonic() > deadline:
            return None
        near, _ = _window(memory, digits, kallsyms.TABLE_REACH, kallsyms.TABLE_REACH)
        if not kallsyms.has_table(*near):
            continue
        (window, place), start = _window(
            memory, digits, kallsyms.WINDOW_BEFORE, kallsyms.WINDOW_AFTER
        )
        symbols = kallsyms.parse(window, start, place)
        kernel = _verified(memory, blocks, symbols) if symbols else None
        if kernel is not None:
            return kernel
    return None


def _window(
    memory: PhysicalMemory, place: int, before: int, after: int
) -> tuple[tuple[bytes, int], int]:
    """Read RAM around a place: the bytes, the place in them, and their address."""
    start = max(0, place - before) & ~0xFFF
    size = min(_end(memory), place + after) - start
    return (memory.read(start, size), place - start), start


def _occurrences(memory: PhysicalMemory, blocks: list[Range], needle: bytes) -> Iterator[int]:
    overlap = len(needle) - 1
    for block in blocks:
        for offset in range(0, block.size, CHUNK):
            length = min(CHUNK + overlap, block.size - offset)
            chunk = memory.read(block.start + offset, length)
            place = chunk.find(needle)
            while place >= 0:
                yield block.start + offset + place
                place = chunk.find(needle, place + 1)


def _verified(memory: PhysicalMemory, blocks: list[Range], symbols: Symbols) -> Kernel | None:
    """Find where the image lies, and believe it only if its own page tables agree.

    RAM may hold other kernels' tables: in the page cache, or left over from before a kexec.
    """
    banner = symbols.by_name.get("linux_banner")
    top = symbols.by_name.get("init_top_pgt")
    if banner is None or top is None:
        return None
    starts = [block.start for block in blocks]
    for address in range(banner % ALIGN, _end(memory) - len(BANNER), ALIGN):
        block = bisect_right(starts, address) - 1
        if block < 0 or address + len(BANNER) > blocks[block].end:
            continue
        if memory.read(address, len(BANNER)) != BANNER:
            continue
        base = address - (banner - KERNEL_MAP)
        tables = _tables(memory, symbols, top, base)
        if tables is None or not _maps(tables, banner, address):
            continue
        text = memory.read(address, min(512, _end(memory) - address)).split(b"\0")[0]
        return Kernel(memory, symbols, text.decode(errors="replace").strip(), base, tables)
    return None


def _tables(memory: PhysicalMemory, symbols: Symbols, top: int, base: int) -> PageTables | None:
    """Return the kernel's page tables: five levels if the last entry leads to a fourth."""
    root = top - KERNEL_MAP + base
    level4 = symbols.by_name.get("level4_kernel_pgt")
    try:
        last = read_word(memory, root + 511 * 8) & FRAME
    except BadAddress:
        return None
    five = level4 is not None and last == level4 - KERNEL_MAP + base
    return PageTables(memory, root, 5 if five else 4)


def _maps(tables: PageTables, virtual: int, physical: int) -> bool:
    try:
        return tables.physical(virtual) == physical
    except BadAddress:
        return False


def _end(memory: PhysicalMemory) -> int:
    return memory.ranges[-1].end
