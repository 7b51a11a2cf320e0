"""RAM is where the guest's map says, however the hypervisor has put it into mappings."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.introspection.kernel import layout
from mizzen.introspection.kernel.layout import HOLE_END, RAM, Home
from mizzen.introspection.memory.physical import Range

GIB = 1 << 30
RESERVED = 2
IMAGE = Range(16 << 20, 32 << 20)


@dataclass(eq=False)
class Source:
    """A mapping that nobody reads."""

    size: int


def firmware(low: int, high: int) -> list[tuple[Range, int]]:
    entries = [(Range(0, 0x9FC00), RAM), (Range(0x100000, low - 0x100000), RAM)]
    return entries + ([(Range(HOLE_END, high), RAM)] if high else [])


def packed(entries: list[tuple[Range, int]]) -> bytes:
    return b"".join(struct.pack("<QQI", *area, kind) for area, kind in entries)


def where(parts) -> list[tuple[int, int, object, int]]:
    return [(*part.range, part.source, part.offset) for part in parts]


def test_ram_below_the_hole_is_one_piece():
    ram = Source(GIB)
    parts = layout.parts(Home(ram, 0), [ram, Source(64 << 20)], firmware(GIB, 0))
    assert where(parts) == [(0, GIB, ram, 0)]


@pytest.mark.parametrize("delta", [0, GIB], ids=["kernel below", "kernel above"])
def test_one_mapping_around_the_hole(delta):
    ram = Source(5 * GIB)
    parts = layout.parts(Home(ram, delta), [ram], firmware(3 * GIB, 2 * GIB))
    assert where(parts) == [(0, 3 * GIB, ram, 0), (HOLE_END, 2 * GIB, ram, 3 * GIB)]


@pytest.mark.parametrize("delta", [-2 * GIB, HOLE_END], ids=["kernel below", "kernel above"])
def test_one_mapping_with_the_upper_part_first(delta):
    ram = Source(5 * GIB)
    parts = layout.parts(Home(ram, delta), [ram], firmware(3 * GIB, 2 * GIB))
    assert where(parts) == [(0, 3 * GIB, ram, 2 * GIB), (HOLE_END, 2 * GIB, ram, 0)]


@pytest.mark.parametrize("home", [0, 1], ids=["kernel below", "kernel above"])
def test_two_mappings(home):
    ram = [Source(3 * GIB), Source(2 * GIB)]
    others = [Source(64 << 20), Source(GIB)]
    delta = HOLE_END if home else 0
    parts = layout.parts(Home(ram[home], delta), [*others, *ram], firmware(3 * GIB, 2 * GIB))
    assert where(parts) == [(0, 3 * GIB, ram[0], 0), (HOLE_END, 2 * GIB, ram[1], 0)]


def test_mappings_that_do_not_agree_with_the_map_are_not_guessed_at():
    ram = Source(3 * GIB)
    assert layout.parts(Home(ram, 0), [ram, Source(GIB)], firmware(3 * GIB, 2 * GIB)) is None
    assert layout.parts(Home(ram, 0), [ram], []) is None


def test_the_firmwares_map_is_found_among_other_data():
    entries = [(Range(0, 0x9FC00), RAM), (Range(0x9FC00, 0x400), RESERVED), *firmware(GIB, 0)[1:]]
    elsewhere = packed([(Range(0, 2), RAM), (Range(192, 6 * HOLE_END), RAM)])
    data = bytes(720) + elsewhere + bytes(64) + packed(entries) + bytes(100)
    assert layout.firmware_map(data, IMAGE) == entries


@given(st.binary(max_size=400))
def test_any_data_is_read_or_passed_over(noise):
    data = bytes(8) + (0x9FC00).to_bytes(8, "little") + b"\x01\0\0\0" + noise
    found = layout.firmware_map(data, IMAGE)
    assert len(found) <= layout.ENTRIES_MAX
    assert all(one[0].end <= other[0].start for one, other in itertools.pairwise(found))
