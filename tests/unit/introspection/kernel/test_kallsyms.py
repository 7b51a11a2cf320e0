"""The symbol table is read in every layout, and nothing a guest writes makes the reader fail."""

from __future__ import annotations

import random
import struct
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from symbol_table import LAYOUTS, Table, lay_out, tokens_for

from mizzen.introspection.kernel import kallsyms

IMAGE = kallsyms.KERNEL_MAP + 0x0210_0000


@cache
def make(layout: str, seed: int, count: int, before: int) -> Table:
    rng = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyz_0123456789."
    names = {
        f"{''.join(rng.choices(alphabet, k=rng.randint(1, 24)))}_{i}" for i in range(count - 2)
    }
    names = [*sorted(names), "long" * 60, "phys_base"]
    rng.shuffle(names)
    address = kallsyms.KERNEL_MAP + 0x0200_0000
    noise = bytes(rng.randrange(1, 256) for _ in range(before))
    return lay_out(layout, {name: IMAGE + rng.randrange(1 << 24) for name in names}, noise, address)


@pytest.mark.parametrize("layout", LAYOUTS)
@example(seed=2228446, count=2143, before=1)  # the last names fit from 4 bytes further on as well
@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1024, 2600), before=st.integers(1, 5000))
def test_every_symbol_is_found_in_every_layout(layout, seed, count, before):
    table = make(layout, seed, count, before)
    symbols = kallsyms.parse(table.window, table.address, table.digits)
    assert symbols is not None
    assert symbols.by_name == table.expected


def test_alternatives_are_tried_in_order():
    table = make("6.12", 1, 1024, 8)
    symbols = kallsyms.parse(table.window, table.address, table.digits)
    assert symbols is not None
    assert symbols.address("no_such_thing|phys_base") == table.expected["phys_base"]
    assert symbols.address("no_such_thing") is None


@settings(max_examples=150)
@given(
    layout=st.sampled_from(LAYOUTS),
    damage=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=16)), max_size=6),
    cut=st.floats(0, 1),
)
def test_a_damaged_table_is_refused_or_read_but_never_raises(layout, damage, cut):
    table = make(layout, 7, 1100, 64)
    window = bytearray(table.window)
    for where, data in damage:
        at = int(where * (len(window) - len(data)))
        window[at : at + len(data)] = data
    shortened = bytes(window[: max(table.digits + 20, int(cut * len(window)))])
    symbols = kallsyms.parse(shortened, table.address, table.digits)
    assert symbols is None or all(0 <= a <= kallsyms.MASK for a in symbols.by_name.values())


@given(st.binary(max_size=4096), st.integers(0, 4096))
def test_any_bytes_are_no_table(noise, place):
    window = noise[:place] + kallsyms.DIGITS + noise[place:]
    assert kallsyms.parse(window, 0, min(place, len(noise))) is None


def test_a_table_crafted_to_match_everywhere_ends_the_search():
    """All names of one letter: every start fits the markers for a long way."""
    tokens = tokens_for()
    markers = struct.pack("<4000I", *(512 * i for i in range(4000)))
    start = b"".join(token + b"\0" for token in tokens)
    offsets = struct.pack("<256H", *(sum(len(t) + 1 for t in tokens[:i]) for i in range(256)))
    names = b"\x01\x01" * (256 * 4000)
    counts = struct.pack("<I", 0x000F9F00 + 200) * 64
    window = counts + names + markers + bytes(8) + start
    window += bytes(-len(window) % 8) + offsets
    digits = window.index(kallsyms.DIGITS)
    assert kallsyms.parse(window, 0, digits) is None
