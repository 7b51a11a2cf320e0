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


def table(**others: int) -> bytes:
    """Return a table with the actions that every kernel sets, unless others are named."""
    actions = {"hi": TEXT, "timer": TIMER, "tasklet": TEXT + 0x60, "hrtimer": TEXT + 0x80, **others}
    order = ("hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer")
    return struct.pack("<10Q", *(actions.get(name, 0) for name in order), actions.get("rcu", 0))


FOUND = [(0, TEXT), (8, TIMER), (48, TEXT + 0x60), (64, TEXT + 0x80)]


def shifted(start: int) -> list[tuple[int, int]]:
    return [(start + at, action) for at, action in FOUND]


def test_actions_that_are_set_are_found():
    data = bytes(64) + table(rcu=TEXT + 0x90) + bytes(64)
    assert hooks.vector(data, TIMER, is_code) == [*shifted(64), (64 + 72, TEXT + 0x90)]


@pytest.mark.parametrize(
    "likeness",
    [
        struct.pack("<10Q", 7, TIMER, *[0] * 8),
        table(tasklet=0),
        table(tasklet=TEXT),
        table(sched=5),
    ],
)
def test_what_only_looks_like_the_table_is_passed_over(likeness):
    assert hooks.vector(likeness, TIMER, is_code) == []
    assert hooks.vector(likeness + table(), TIMER, is_code) == shifted(80)


def test_a_pointer_at_an_odd_place_is_none():
    assert hooks.vector(bytes(3) + table(), TIMER, is_code) == []


@given(st.lists(st.sampled_from((0, TEXT, TIMER, 5)), max_size=40), st.integers(0, 7))
def test_whatever_is_found_is_code_in_the_data(words, cut):
    data = struct.pack(f"<{len(words)}Q", *words) + table()
    data = data[: max(0, len(data) - cut)]
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
