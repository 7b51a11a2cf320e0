"""The short way to a kernel: through the code by which it starts its CPUs.

Every x86-64 kernel keeps a page table in the first MiB for that, whose last word is that of its own
top table (trampoline_pgd, arch/x86/realmode/init.c): it leads to level3_kernel_pgt, with five
levels to level4_kernel_pgt, whose last word does. It was written by the kernel that booted last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mizzen.introspection.memory.physical import PAGE
from mizzen.introspection.memory.ram import Source
from mizzen.introspection.paging.tables import FRAME, PRESENT, TABLE

from .layout import HOLE_END

LOW = 640 << 10
"""Bytes of RAM below the legacy hole; processors start there."""
LEADS_MAX = 16
"""Pages in there that look like a top table. There is one, high up; firmware may leave others."""
HOLE_STEP = 128 << 20
DELTAS = (0, *(HOLE_END - low for low in range(0, HOLE_END, HOLE_STEP)))
"""What offsets in a mapping may lack to be physical: nothing, or what is left out by a hole that
begins at one of the places where hypervisors let it begin."""


def leads(low: bytes) -> list[int]:
    """Return where the pages of the first MiB lead that can be a top table."""
    words = [page[-1] for page in TABLE.iter_unpack(low)][::-1]
    return list(dict.fromkeys(word & FRAME for word in words if word & PRESENT))[:LEADS_MAX]


def tables(sources: Sequence[Source]) -> Iterator[tuple[Source, int]]:
    """Yield where level3_kernel_pgt may be: a mapping, and the offset in it."""
    for below in sources:
        if below.size < LOW:
            continue
        for frame in leads(below.read(0, LOW)):
            for source in sources:
                for delta in DELTAS:
                    yield from _at(source, frame, delta)


def _at(source: Source, frame: int, delta: int) -> Iterator[tuple[Source, int]]:
    for _ in range(2):
        offset = frame - delta
        if not 0 <= offset <= source.size - PAGE:
            return
        yield source, offset
        last = TABLE.unpack(source.read(offset, PAGE))[-1]
        if not last & PRESENT:
            return
        frame = last & FRAME
