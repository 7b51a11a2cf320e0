"""Where code is put and what calls it is told from the bytes around."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mizzen.sessions.inject import blob, hooks, padding

KERNEL = 0xFFFF_FFFF_8100_0000


@given(st.integers(0, 3 * 4096), st.integers(0, 6 * 4096), st.integers(1, 3 * 4096))
def test_every_place_is_page_aligned_padding_of_the_whole_size(before, run, size):
    text = b"\x90" * before + b"\xcc" * run + b"\x90" * 100
    for place in padding.places(text, KERNEL, size):
        assert place % 4096 == 0
        assert text[place - KERNEL : place - KERNEL + size] == b"\xcc" * size


def test_padding_that_is_large_enough_is_found():
    text = b"\x90" * 100 + b"\xcc" * 12288 + b"\x90"
    assert padding.places(text, KERNEL, 8192) == [KERNEL + 4096]


def test_a_work_item_is_told_from_another_pointer():
    function = KERNEL + 0x1230
    pointer = function.to_bytes(8, "little")
    listed = (KERNEL + 0x5000).to_bytes(8, "little") * 2
    data = bytes(64) + pointer + bytes(64) + bytes(8) + listed + pointer + bytes(16)
    assert hooks.work_items(data, KERNEL, function) == [KERNEL + 64 + 8 + 64 + 8 + 16]


def test_a_pointer_at_an_odd_place_is_none():
    function = KERNEL + 0x1230
    listed = (KERNEL + 0x5000).to_bytes(8, "little") * 2
    data = bytes(3) + bytes(8) + listed + function.to_bytes(8, "little")
    assert hooks.work_items(data, KERNEL, function) == []


@given(st.binary(max_size=600), st.integers(0, 3 * 4096))
def test_what_looks_like_a_blob_is_read_or_passed_over(noise, place):
    text = bytes(place) + blob.MAGIC.to_bytes(8, "little") + noise
    for entry, size, pairs in blob.stale(text, KERNEL):
        assert entry % 4096 == 0
        assert entry + size <= KERNEL + len(text)
        assert len(pairs) <= hooks.HOOKS_MAX
