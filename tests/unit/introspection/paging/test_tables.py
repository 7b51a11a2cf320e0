"""Page tables are walked as the processor does, whatever the guest wrote into them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ram import Ram

from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.paging.tables import LARGE, NO_EXECUTE, PRESENT, PageTables

SHIFTS = (48, 39, 30, 21, 12)
RAM = 1 << 20


def map_page(
    memory: Ram, levels: int, virtual: int, physical: int, *, shift: int = 12
) -> PageTables:
    """Map one page of 1 << shift bytes with fresh tables from 0x1000 on."""
    table = 0x1000
    for at in SHIFTS[-levels:]:
        entry = table + ((virtual >> at) & 511) * 8
        if at == shift:
            memory.put(entry, physical | PRESENT | (LARGE if shift > 12 else 0))
            break
        table += 0x1000
        memory.put(entry, table | PRESENT)
    return PageTables(memory, 0x1000, levels)


@given(
    levels=st.sampled_from((4, 5)),
    shift=st.sampled_from((12, 21, 30)),
    virtual=st.integers(0, (1 << 64) - 1),
    frame=st.integers(0, (1 << 18) - 1),
)
def test_a_mapped_page_leads_to_its_frame(levels, shift, virtual, frame):
    memory = Ram(RAM)
    physical = frame << shift & 0x000F_FFFF_FFFF_F000
    tables = map_page(memory, levels, virtual, physical, shift=shift)
    assert tables.physical(virtual) == physical + virtual % (1 << shift)


@given(levels=st.sampled_from((4, 5)), virtual=st.integers(0, (1 << 48) - 1))
def test_an_unmapped_page_leads_nowhere(levels, virtual):
    memory = Ram(RAM)
    tables = map_page(memory, levels, virtual, 0x8000)
    assert tables.look_up(virtual ^ (1 << 12)) is None
    with pytest.raises(BadAddress):
        tables.physical(virtual ^ (1 << 12))


def test_no_execute_at_any_level_counts():
    memory = Ram(RAM)
    tables = map_page(memory, 4, 0x4000, 0x9000)
    assert tables.look_up(0x4000).executable
    entry = int.from_bytes(memory.read(0x1000, 8), "little")
    memory.put(0x1000, entry | NO_EXECUTE)
    assert not tables.look_up(0x4000).executable


def test_reading_crosses_pages_that_lie_apart():
    memory = Ram(RAM)
    tables = map_page(memory, 4, 0x4000, 0x20000)
    memory.put(0x4000 + 5 * 8, 0x10000 | PRESENT)  # the last table is at 0x4000; 0x5000 follows
    tables.write(0x4FFE, b"abcd")
    assert memory.read(0x20FFE, 2) == b"ab"
    assert memory.read(0x10000, 2) == b"cd"
    assert tables.read(0x4FFE, 4) == b"abcd"


@given(
    st.lists(st.integers(0, (1 << 64) - 1), max_size=8),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from((4, 5)),
)
def test_random_tables_never_lead_out_of_ram_unnoticed(entries, virtual, levels):
    memory = Ram(4096)
    for number in range(512 if entries else 0):
        memory.put(8 * number, entries[number % len(entries)])
    with contextlib.suppress(BadAddress):
        page = PageTables(memory, 0, levels).look_up(virtual)
        assert page is None or 0 <= page.address < 1 << 52
