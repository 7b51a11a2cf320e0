"""The kernel's log is read as its own reader does, also by what vmcoreinfo tells alone."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel import BASE, Kernel

from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import Objects
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.views.log import COMMITTED, FINALIZED, log

PRB, DESCS, INFOS, TEXTS, INFO = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
COUNT_BITS, SIZE_BITS = 3, 8
MASK = (1 << 64) - 1
LAYOUT = """OSRELEASE=6.6.6
PAGESIZE=4096
SYMBOL(prb)=ffff888000000ff8
NUMBER(phys_base)=16777216
OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=48
OFFSET(prb_desc_ring.count_bits)=0
OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16
OFFSET(prb_desc_ring.head_id)=24
OFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24
OFFSET(prb_desc.state_var)=0
OFFSET(prb_desc.text_blk_lpos)=8
OFFSET(prb_data_blk_lpos.begin)=0
OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=88
OFFSET(printk_info.seq)=0
OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16
OFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8
"""


def ring(head: int, tail: int) -> Kernel:
    """A kernel with an empty log whose descriptors have the numbers tail to head."""
    kernel = Kernel()
    kernel.put(PRB - 8, BASE + PRB)
    kernel.put(PRB, COUNT_BITS, BASE + DESCS, BASE + INFOS, head, tail)
    kernel.put(PRB + 48, SIZE_BITS, BASE + TEXTS)
    kernel.memory.write(INFO, LAYOUT.encode())
    return kernel


def put(kernel: Kernel, number: int, text: bytes, begin: int, state: int = FINALIZED) -> int:
    """Store a message at a logical position of the text ring; return where the next may begin."""
    size, index = 1 << SIZE_BITS, number % (1 << COUNT_BITS)
    block = struct.pack("<Q", number) + text + bytes(-len(text) % 8)
    end = begin + len(block)
    start = begin % size
    if begin // size != (end - 1) // size:  # it does not fit: to the ring's beginning
        end = (begin // size + 1) * size + len(block)
        start = 0
    kernel.memory.write(TEXTS + start, block)
    kernel.put(DESCS + 24 * index, state << 62 | number, begin & MASK, end & MASK)
    info = struct.pack("<QQH", number + 100, number * 1_000_000_000, len(text))
    kernel.memory.write(INFOS + 88 * index, info)
    return end


def texts(kernel: Kernel) -> list[str]:
    return [record.text for record in log(Objects(kernel, None))]


def test_messages_come_in_order_with_number_and_time():
    kernel = ring(2, 0)
    place = put(kernel, 0, b"first", 0)
    place = put(kernel, 1, b"second\nline", place)
    put(kernel, 2, "dritt\u00e4ltest".encode(), place, COMMITTED)
    found = log(Objects(kernel, None)).items
    assert [one.text for one in found] == ["first", "second\nline", "dritt\u00e4ltest"]
    assert [one.sequence for one in found] == [100, 101, 102]
    assert found[1].time == 1.0
    assert found[1].level is None


def test_a_message_that_does_not_fit_stands_at_the_rings_beginning():
    kernel = ring(1, 0)
    place = put(kernel, 0, b"a" * 20, 200)
    put(kernel, 1, b"b" * 30, place)
    assert texts(kernel) == ["a" * 20, "b" * 30]


def test_descriptors_come_round():
    kernel = ring(13, 6)
    place = 0
    for number in range(6, 14):
        place = put(kernel, number, b"%d" % number, place)
    assert texts(kernel) == [str(number) for number in range(6, 14)]


def test_what_is_being_written_or_was_dropped_is_left_out():
    kernel = ring(3, 0)
    place = put(kernel, 0, b"kept", 0)
    place = put(kernel, 1, b"reserved", place, 0)
    place = put(kernel, 2, b"reusable", place, 3)
    put(kernel, 11, b"of the next round", place)
    assert texts(kernel) == ["kept"]


def test_a_text_that_was_overwritten_is_left_out():
    kernel = ring(1, 0)
    place = put(kernel, 0, b"lost", 0)
    put(kernel, 1, b"kept", place)
    kernel.put(TEXTS, 99)
    assert texts(kernel) == ["kept"]


def test_a_message_without_text_is_an_empty_line():
    kernel = ring(0, 0)
    put(kernel, 0, b"x", 0)
    kernel.put(DESCS + 8, 3, 3)
    assert texts(kernel) == [""]


def test_a_message_that_found_no_room_is_left_out():
    kernel = ring(0, 0)
    put(kernel, 0, b"x", 0)
    kernel.put(DESCS + 8, 1, 1)
    assert texts(kernel) == []


def test_positions_go_on_after_64_bits():
    kernel = ring(2, 0)
    place = put(kernel, 0, b"before", MASK - 55)
    place = put(kernel, 1, b"a" * 40, place)
    put(kernel, 2, b"after", place & MASK)
    assert texts(kernel) == ["before", "a" * 40, "after"]


def test_a_kernel_that_tells_nothing_is_refused():
    kernel = ring(0, 0)
    kernel.memory.write(INFO, bytes(16))
    with pytest.raises(Unknown, match="vmcoreinfo"):
        log(Objects(kernel, None))


def test_a_missing_offset_is_named():
    kernel = ring(0, 0)
    kernel.memory.write(INFO, LAYOUT.replace("prb_desc)", "prb_disc)").encode())
    with pytest.raises(Unknown, match=r"SIZE\(prb_desc\)"):
        log(Objects(kernel, None))


@given(
    st.lists(st.tuples(st.integers(PRB, TEXTS + 256), st.integers(0, (1 << 64) - 1)), max_size=20)
)
def test_a_damaged_log_is_read_or_refused(changes):
    kernel = ring(2, 0)
    place = 0
    for number in range(3):
        place = put(kernel, number, b"text", place)
    for at, value in changes:
        kernel.put(at & ~7, value)
    with contextlib.suppress(Unknown, BadAddress):
        log(Objects(kernel, None))


@given(st.dictionaries(st.sampled_from(LAYOUT.splitlines()[2:]), st.integers(-9, 1 << 40)))
def test_any_offsets_are_used_or_refused(values):
    kernel = ring(0, 0)
    put(kernel, 0, b"text", 0)
    text = LAYOUT
    for line, value in values.items():
        text = text.replace(line, f"{line.partition('=')[0]}={value}")
    kernel.memory.write(INFO, text.encode() + bytes(8))
    with contextlib.suppress(Unknown, BadAddress):
        log(Objects(kernel, None))
