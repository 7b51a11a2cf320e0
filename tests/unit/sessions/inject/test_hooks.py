"""The table of softirqs is told from the words around its one known entry."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.sessions.inject import hooks

TEXT = 0xFFFF_FFFF_8100_0000
TIMER = TEXT + 0x1230


def is_code(address: int) -> bool:
    return TEXT <= address < TEXT + 0x100000


def table(*actions: int) -> bytes:
    return struct.pack("<10Q", *actions, *[0] * (10 - len(actions)))


def test_actions_that_are_set_are_found():
    data = bytes(64) + table(TEXT, TIMER, 0, TEXT + 64) + bytes(64)
    assert hooks.vector(data, TIMER, is_code) == [(64, TEXT), (72, TIMER), (88, TEXT + 64)]


def test_a_lonely_pointer_to_the_function_is_no_table():
    lonely = struct.pack("<10Q", 7, TIMER, *[0] * 8)
    data = lonely + table(TEXT, TIMER)
    assert hooks.vector(data, TIMER, is_code) == [(80, TEXT), (88, TIMER)]


def test_a_pointer_at_an_odd_place_is_none():
    assert hooks.vector(bytes(3) + table(TEXT, TIMER), TIMER, is_code) == []


@given(st.lists(st.sampled_from((0, TEXT, TIMER, 5)), max_size=40), st.integers(0, 7))
def test_whatever_is_found_is_code_in_the_data(words, cut):
    data = struct.pack(f"<{len(words)}Q", *words)[: max(0, len(words) * 8 - cut)]
    for at, action in hooks.vector(data, TIMER, is_code):
        assert is_code(action)
        assert data[at : at + 8] == action.to_bytes(8, "little")


HASH = bytes.fromhex("b812345678")
NOPS = bytes.fromhex("90" * 11)


@pytest.mark.parametrize(
    ("before", "checked"),
    [
        ([NOPS + HASH] * 3, True),
        ([HASH + NOPS] * 3, True),
        ([hooks.ENDBR64 + bytes(12)] * 3, True),
        ([NOPS + HASH, HASH + NOPS], False),
        ([NOPS + bytes(5)] * 3, False),
    ],
)
def test_checked_calls_are_told_from_what_stands_before_functions(before, checked):
    assert hooks.calls_are_checked(before) is checked
