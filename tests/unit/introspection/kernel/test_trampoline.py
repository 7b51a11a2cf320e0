"""The trampoline's last word leads to the kernel's tables, in whichever mapping they are."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from ram import Ram

from mizzen.introspection.kernel import trampoline
from mizzen.introspection.kernel.layout import HOLE_END

PRESENT = 0x63
TRAMPOLINE = 0x9D000


class Source(Ram):
    """A mapping."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def mapping(frame: int) -> Source:
    ram = Source(4 << 20)
    ram.put(TRAMPOLINE + 4088, frame | PRESENT)
    return ram


def test_tables_below_the_hole_are_led_to():
    ram = mapping(0x300000)
    assert (ram, 0x300000) in list(trampoline.tables([ram]))


def test_five_levels_are_followed():
    ram = mapping(0x300000)
    ram.put(0x300000 + 4088, 0x305000 | PRESENT)
    assert (ram, 0x305000) in list(trampoline.tables([ram]))


def test_tables_above_the_hole_are_led_to_in_a_mapping_of_their_own():
    low, high = mapping(HOLE_END + 0x200000), Source(4 << 20)
    assert (high, 0x200000) in list(trampoline.tables([low, high]))


def test_what_lies_highest_is_tried_first():
    low = bytearray(trampoline.LOW)
    for page in range(100):
        struct.pack_into("<Q", low, page * 4096 + 4088, (page + 1) << 12 | 1)
    assert trampoline.leads(bytes(low))[0] == 100 << 12
    assert len(trampoline.leads(bytes(low))) <= trampoline.LEADS_MAX


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20))
def test_wherever_it_leads_places_are_in_the_mapping(words):
    ram = Source(2 << 20)
    for number, word in enumerate(words):
        ram.put(0x1000 * number + 4088, word)
    for source, offset in trampoline.tables([ram]):
        assert 0 <= offset <= source.size - 4096
