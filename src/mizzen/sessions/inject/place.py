"""Room for stage 1, in memory that nobody uses, and a mapping that lets it run.

Linux reserves the first 64 KiB of RAM for good, because firmware writes there (the option
CONFIG_X86_RESERVE_LOW; the whole first MiB since 5.13, arch/x86/kernel/setup.c). Pages there that
hold nothing but zeros are free for us. The kernel's direct map reaches them as data. To make them
executable, a word of level2_kernel_pgt that maps nothing, behind the kernel image, is made to map
the first 2 MiB of RAM, read-only. No CPU can have cached an entry that was not present, and what
CPUs cache of this mapping later stays true, since it is always the same one.

The pages must not have run other code: QEMU's TCG does not notice writes from outside to code it
has translated. Of zeros it knows: the guest itself wrote them, or nobody ever wrote anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mizzen.introspection.kernel.image import LARGE_PAGE, Kernel
from mizzen.introspection.kernel.kallsyms import KERNEL_MAP
from mizzen.introspection.memory.physical import PAGE, read_word, write_word
from mizzen.introspection.paging.tables import LARGE, PRESENT, TABLE
from mizzen.model.errors import Failure

LOW = 64 << 10
"""Bytes at the beginning of RAM that every kernel keeps out of use."""
SIZE = 2 * PAGE
PLACES = range(PAGE, LOW - PAGE, SIZE)
"""Physical addresses of all places; they do not overlap."""
ACCESSED = 1 << 5
MAPPING = PRESENT | ACCESSED | LARGE
"""A page directory's entry for the first 2 MiB: read-only, executable, for the kernel alone."""
STRUCT_PAGE = 64
"""sizeof(struct page) wherever vmemmap_base is known and struct page is not extended."""


@dataclass(frozen=True, slots=True)
class Place:
    """Two neighbouring pages: one for code, one for data.

    physical: of the first. code: the virtual address at which it can run. data: the second's
    address in the direct map. entry: physical address of the page directory's word.
    """

    physical: int
    code: int
    data: int
    entry: int

    @property
    def data_physical(self) -> int:
        """Where the data page is in RAM."""
        return self.physical + PAGE


def choose(kernel: Kernel) -> Place:
    """Return a place that nobody uses. Raises Failure if there is none."""
    low = kernel.memory.read(0, LOW)
    reserved = _reserved(kernel)
    for physical in PLACES:
        if not any(low[physical : physical + SIZE]) and {physical, physical + PAGE} <= reserved:
            return at(kernel, physical)
    raise Failure(
        "cannot attach",
        f"none of the first {LOW >> 10} KiB of the guest's RAM, which Linux reserves, is unused",
        "boot the guest anew",
    )


def at(kernel: Kernel, physical: int) -> Place:
    """Return the place at a physical address. Raises Failure if it cannot be mapped."""
    index = _free_entry(kernel)
    code = KERNEL_MAP + index * LARGE_PAGE + physical
    data = kernel.direct_map + physical + PAGE
    if kernel.tables.physical(data) != physical + PAGE:
        raise Failure("cannot attach", "the guest's direct map is not where it seemed to be")
    return Place(physical, code, data, kernel.directory + 8 * index)


def in_use(kernel: Kernel, magic: bytes) -> Iterator[int]:
    """Yield the physical addresses of what earlier attaches could not take away."""
    low = kernel.memory.read(0, LOW)
    for physical in PLACES:
        if low.startswith(magic, physical):
            yield physical


def map_in(kernel: Kernel, place: Place) -> None:
    """Make the place executable."""
    write_word(kernel.memory, place.entry, MAPPING)


def unmap(kernel: Kernel, place: Place) -> None:
    """Take the mapping away again."""
    write_word(kernel.memory, place.entry, 0)


def _free_entry(kernel: Kernel) -> int:
    """Return the index of the first entry behind the kernel image that maps nothing, or our own."""
    entries = TABLE.unpack(kernel.memory.read(kernel.directory, TABLE.size))
    start = (kernel.image[0].virtual - KERNEL_MAP) // LARGE_PAGE
    for index in range(start, len(entries)):
        if entries[index] in {0, MAPPING}:
            return index
    raise Failure("cannot attach", "the guest's kernel image fills its whole gigabyte")


def _reserved(kernel: Kernel) -> set[int]:
    """Return the pages of the low memory whose struct page is like that of page 0.

    That one is reserved on every kernel. Where vmemmap_base is no symbol, the first 64 KiB are
    taken to be reserved, as they are unless CONFIG_X86_RESERVE_LOW was made smaller.
    """
    pages = range(0, LOW, PAGE)
    base = kernel.symbols.address("vmemmap_base")
    if base is None:
        return set(pages)
    start = read_word(kernel.memory, kernel.physical(base))
    flags = [kernel.tables.read(start + STRUCT_PAGE * (page // PAGE), 8) for page in pages]
    return {page for page in pages if flags[page // PAGE] == flags[0]}
