"""A Linux kernel found in RAM: its image, its symbols and its address space.

Nothing is known at first but mappings of a process. In this order:

1. kallsyms' token_table is found by its content (``kallsyms.py``): in the image to which the
   trampoline leads (``trampoline.py``), or anywhere in RAM.
2. Behind it, in the image's data, lies level3_kernel_pgt: a page whose only two words, the last,
   lead to the tables of the image and of the fixmap. The former, level2_kernel_pgt, is the next
   page (arch/x86/kernel/head_64.S), and says where in physical memory the image is.
3. A few pages before, the one whose last word leads to level3_kernel_pgt is the top table,
   init_top_pgt; with five levels level4_kernel_pgt stands between.
4. The symbols are read, now that the tables' virtual addresses are known.
5. The firmware's memory map in boot_params tells where RAM is (``layout.py``).

RAM may hold tables of other kernels. Those in the page cache do not agree: the page tables must
map token_table to the very place at which it was found. Of those that ran before a reset or a kexec
all may still be there; so one is preferred to which the trampoline leads that each kernel makes for
starting CPUs (trampoline_pgd, arch/x86/realmode/init.c).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mizzen.introspection.memory.physical import (
    PAGE,
    BadAddress,
    PhysicalMemory,
    Range,
    check_range,
    read_word,
)
from mizzen.introspection.memory.ram import GuestMemory, Part, Source
from mizzen.introspection.paging.tables import (
    ENTRIES,
    FRAME,
    LARGE,
    PRESENT,
    TABLE,
    PageTables,
    Run,
    runs,
)
from mizzen.model.errors import Failure

from . import kallsyms, layout, trampoline
from .kallsyms import KERNEL_MAP, Symbols

BANNER = re.compile(rb"Linux version [\x21-\x7e]+ \([^\0]{1,500}\n?\0")
"""linux_banner, init/version.c."""
CHUNK = 16 << 20
SEARCH_SECONDS = 30
"""A hostile guest can fill its RAM with what looks like the beginning of a symbol table."""
IMAGE_MAX = 512 << 20
"""KERNEL_IMAGE_SIZE without KASLR; no kernel is larger, in bytes."""
TABLES_REACH = 96 << 20
"""How far behind token_table the page tables may lie, in bytes."""
LARGE_PAGE = 2 << 20
TOP_REACH = 16 * PAGE
"""How far before level3_kernel_pgt init_top_pgt may lie, in bytes; it is 3 to 5 pages."""
LINKS = (510, 511)
"""The entries of level3_kernel_pgt in use: the image's gigabyte, and the fixmap's."""
EMPTY = bytes(8 * LINKS[0])
RUNS_MAX = 1024
"""Parts of the image that are mapped alike; a kernel has some ten."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A running kernel.

    banner: as in /proc/version. physical_base: what phys_base holds: physical minus virtual
    address of the image, plus KERNEL_MAP. tables: its address space. image: what of the image is
    mapped. directory: physical address of level2_kernel_pgt, which maps KERNEL_MAP's gigabyte.
    direct_map: the virtual address at which all of RAM is mapped, page_offset_base.
    """

    memory: PhysicalMemory
    symbols: Symbols
    banner: str
    physical_base: int
    tables: PageTables
    image: tuple[Run, ...]
    directory: int
    direct_map: int

    @property
    def release(self) -> str:
        """As ``uname -r`` says in the guest."""
        return self.banner.split(" ", 3)[2]

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
                "use a kernel that has it",
            )
        return address

    def is_code(self, virtual: int) -> bool:
        """Tell whether an address lies in the image's text."""
        return any(run.executable and 0 <= virtual - run.virtual < run.size for run in self.image)

    def data(self) -> Iterator[tuple[int, bytes]]:
        """Yield the writable parts of the image: virtual address and bytes."""
        for run in self.image:
            if run.writable:
                yield run.virtual, self.memory.read(run.physical, run.size)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a kernel is in a mapping.

    memory: that mapping, as if all of it were around the image; delta: what its offsets lack to be
    physical. image: physical addresses from the first to the last of its pages.
    """

    memory: GuestMemory
    delta: int
    directory: int
    image: Range
    physical_base: int


def find(sources: Sequence[Source]) -> Kernel | None:
    """Find the running kernel in a process's mappings, None if there is none.

    Raises Failure if there is one but where its RAM lies cannot be made out.
    """
    former: Kernel | None = None
    unclear: Failure | None = None
    deadline = time.monotonic() + SEARCH_SECONDS
    for found in itertools.chain(_led_to(sources, deadline), _kernels(sources, deadline)):
        if isinstance(found, Failure):
            unclear = unclear or found
        elif _booted_last(found):
            return found
        else:
            former = former or found
    if former is None and unclear is not None:
        raise unclear
    return former


def release_of_any(sources: Sequence[Source]) -> str | None:
    """Return the release that a kernel's banner in RAM names, be there symbols or not."""
    deadline = time.monotonic() + SEARCH_SECONDS
    for source in sources:
        for at in _occurrences(source, b"Linux version "):
            if time.monotonic() > deadline:
                return None
            banner = BANNER.match(source.read(at, min(600, source.size - at)))
            if banner:
                return banner[0].split(b" ", 3)[2].decode(errors="replace")
    return None


def _kernels(sources: Sequence[Source], deadline: float) -> Iterator[Kernel | Failure]:
    """Yield the kernels in RAM, and why one cannot be read. What only looks like one is no end."""
    for source in sources:
        for digits in _occurrences(source, kallsyms.DIGITS):
            if time.monotonic() > deadline:
                return
            if not _has_table(source, digits):
                continue
            for place in _places(source, digits, deadline):
                image = place.memory.read(*place.image)
                yield from _tried(place, image, source, sources, digits)


def _led_to(sources: Sequence[Source], deadline: float) -> Iterator[Kernel | Failure]:
    """Yield the kernel that the trampoline leads to, which spares a search of all RAM."""
    for source, offset in trampoline.tables(sources):
        page = source.read(offset, PAGE)
        place = _place(source, offset, TABLE.unpack(page)) if page.startswith(EMPTY) else None
        if place is None or time.monotonic() > deadline:
            continue
        image = place.memory.read(*place.image)
        start = place.image.start - place.delta
        for found in re.finditer(re.escape(kallsyms.DIGITS), image):
            if time.monotonic() > deadline:
                return
            digits = start + found.start()
            if _has_table(source, digits):
                yield from _tried(place, image, source, sources, digits)


def _tried(
    place: _Place, image: bytes, source: Source, sources: Sequence[Source], digits: int
) -> Iterator[Kernel | Failure]:
    try:
        kernel = _kernel(place, image, source, sources, digits)
    except BadAddress:
        return
    except Failure as failure:
        yield failure
        return
    if kernel is not None:
        yield kernel


def _occurrences(source: Source, needle: bytes) -> Iterator[int]:
    overlap = len(needle) - 1
    for block in source.blocks():
        for offset in range(0, block.size, CHUNK):
            length = min(CHUNK + overlap, block.size - offset)
            chunk = source.read(block.start + offset, length)
            place = chunk.find(needle)
            while place >= 0:
                yield block.start + offset + place
                place = chunk.find(needle, place + 1)


def _has_table(source: Source, digits: int) -> bool:
    start = max(0, digits - kallsyms.TABLE_REACH) & -PAGE
    size = min(source.size, digits + kallsyms.TABLE_REACH) - start
    return kallsyms.has_table(source.read(start, size), digits - start)


def _places(source: Source, digits: int, deadline: float) -> Iterator[_Place]:
    """Yield the kernels whose page tables follow a position."""
    start = digits & -PAGE
    for block in source.blocks():
        first, last = max(start, block.start), min(start + TABLES_REACH, block.end)
        for offset in range(first, last, CHUNK):
            chunk = source.read(offset, min(CHUNK, last - offset))
            for at in range(0, len(chunk) - PAGE + 1, PAGE):
                if time.monotonic() > deadline:
                    return
                if chunk.startswith(EMPTY, at) and any(chunk[at + len(EMPTY) : at + PAGE]):
                    page = TABLE.unpack_from(chunk, at)
                    place = _place(source, offset + at, page)
                    if place is not None:
                        yield place


def _place(source: Source, offset: int, page: tuple[int, ...]) -> _Place | None:
    """Take a page for level3_kernel_pgt; None if it turns out to be none."""
    if not all(page[link] & PRESENT for link in LINKS):
        return None
    directory = page[LINKS[0]] & FRAME
    delta = directory - (offset + PAGE)
    here = Range(max(0, delta), source.size + min(0, delta))
    memory = GuestMemory([Part(here, source, max(0, -delta))])
    try:
        image = _image(TABLE.unpack(memory.read(directory, TABLE.size)))
        if image is None or not image[1].start <= offset + delta < image[1].end:
            return None
        check_range(memory.ranges, *image[1])
    except BadAddress:
        return None
    return _Place(memory, delta, directory, image[1], image[0])


def _image(entries: tuple[int, ...]) -> tuple[int, Range] | None:
    """Read level2_kernel_pgt: phys_base, and where the image is.

    Of the pages that were split up the tables may be anywhere; the others tell enough.
    """
    first = next((i for i, entry in enumerate(entries) if entry & PRESENT), None)
    base = next((_start(i, entry) for i, entry in enumerate(entries) if _large(entry)), None)
    if first is None or base is None:
        return None
    last = first
    # With page-table isolation, freed parts of the image are no longer present, but not 0.
    while last < len(entries) and entries[last]:
        if _large(entries[last]) and _start(last, entries[last]) != base:
            break
        last += 1
    start, size = base + first * LARGE_PAGE, (last - first) * LARGE_PAGE
    return (base, Range(start, size)) if start >= 0 and size <= IMAGE_MAX else None


def _large(entry: int) -> bool:
    return entry & PRESENT != 0 and entry & LARGE != 0


def _start(index: int, entry: int) -> int:
    """Return where the directory's first entry would lead if all were like this one."""
    return (entry & FRAME & -LARGE_PAGE) - index * LARGE_PAGE


def _top(place: _Place) -> PageTables | None:
    """Find the top table close before level3: it leads there, and maps more than that.

    Processes' tables do so as well, and parts of the image that were freed may hold some.
    """
    level3 = place.directory - PAGE
    start = max(level3 - TOP_REACH, place.image.start)
    data = place.memory.read(start, level3 - start)
    near = {start + PAGE * i: words for i, words in enumerate(TABLE.iter_unpack(data))}

    def leading_to(table: int) -> list[int]:
        return [
            at for at, words in near.items() if words[-1] & (FRAME | PRESENT) == table | PRESENT
        ]

    pages = leading_to(level3)
    uppers = [upper for page in pages for upper in leading_to(page)]
    for levels, tops in ((5, uppers), (4, pages)):  # to level4_kernel_pgt something leads, if any
        for top in tops:
            if any(near[top][ENTRIES // 2 : -1]):
                return PageTables(place.memory, top, levels)
    return None


def _kernel(
    place: _Place, data: bytes, source: Source, sources: Sequence[Source], digits: int
) -> Kernel | None:
    """Read the kernel in an image, whose bytes are given; None if there is none."""
    at = digits + place.delta
    if not place.image.start <= at < place.image.end:
        return None
    top = _top(place)
    banner = BANNER.search(data)
    if top is None or banner is None:
        return None
    symbols = _symbols(place, data, at - place.image.start)
    if symbols is None:
        return None
    firmware = _firmware_map(place, data, symbols)
    parts = layout.parts(layout.Home(source, place.delta), sources, firmware)
    if parts is None:
        raise Failure(
            "cannot read the guest",
            "its hypervisor's mappings do not agree with the guest's own map of its RAM",
            "give it RAM in one piece, or in two around the hole below 4 GiB",
        )
    memory = GuestMemory(parts)
    tables = PageTables(memory, top.root, top.levels)
    base = place.physical_base - KERNEL_MAP
    mapped = runs(memory, place.directory, 21, KERNEL_MAP)
    own = (run for run in mapped if run.physical - run.virtual == base)
    image = tuple(itertools.islice(own, RUNS_MAX))
    if not image:
        raise BadAddress("the image is not where it was")
    text = banner[0].rstrip(b"\n\0").decode(errors="replace")
    return Kernel(
        *(memory, symbols, text, place.physical_base, tables, image, place.directory),
        direct_map=_direct_map(tables, place.directory),
    )


def _firmware_map(place: _Place, data: bytes, symbols: Symbols) -> list[tuple[Range, int]]:
    """Find the firmware's memory map: in boot_params, or anywhere if that has no name."""
    address = symbols.address("boot_params")
    if address is not None:
        at = address - KERNEL_MAP + place.physical_base - place.image.start
        found = layout.firmware_map(data[at : at + PAGE] if at >= 0 else b"", place.image)
        if found:
            return found
    return layout.firmware_map(data, place.image)


def _direct_map(tables: PageTables, known: int) -> int:
    """Find page_offset_base: the first thing mapped in the kernel's half of the address space.

    known: a physical address that must be mapped there.
    """
    found = tables.first()
    base = found.virtual - found.physical if found else 0
    if not base or tables.physical(base + known) != known:
        raise BadAddress("the direct map is not where it should be")
    return base


def _booted_last(kernel: Kernel) -> bool:
    """Tell whether a page of the first MiB leads where the kernel's top table leads."""
    wanted = read_word(kernel.memory, kernel.tables.root + PAGE - 8) & FRAME
    try:
        return wanted in trampoline.leads(kernel.memory.read(0, trampoline.LOW))
    except BadAddress:
        return False


def _symbols(place: _Place, data: bytes, digits: int) -> Symbols | None:
    """Read the symbol table around its digits, whose place in the image is given."""
    start = max(0, (digits & -PAGE) - kallsyms.WINDOW_BEFORE)
    window = data[start : digits + kallsyms.WINDOW_AFTER]
    virtual = place.image.start + start - place.physical_base + KERNEL_MAP
    return kallsyms.parse(window, virtual, digits - start)
