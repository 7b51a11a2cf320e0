"""The symbol table is read in every layout, and nothing a guest writes makes the reader fail."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.introspection.kernel import kallsyms

LAYOUTS = ("5.10", "6.1.y", "6.12", "7.x")
BASE = 0xFFFF_FFFF_9A00_0000


@dataclass
class Table:
    window: bytes
    address: int
    digits: int
    expected: dict[str, int]


def tokens_for() -> list[bytes]:
    """Letters, digits and a few signs stand for themselves; the rest are whole words."""
    own = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.$"
    words = iter(
        [
            b"%c%c%s" % (a, b, w)
            for w in (b"_", b"lock", b"init")
            for a in b"xyzpq"
            for b in range(97, 117)
        ]
    )
    return [bytes((code,)) if code in own else next(words) for code in range(256)]


def encoder(tokens: list[bytes]) -> Callable[[bytes], bytes]:
    """Longest token first, as good as the kernel's own choice for reading."""
    pattern = re.compile(b"|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))
    codes = {token: code for code, token in enumerate(tokens)}

    def encode(name: bytes) -> bytes:
        body = bytes(codes[token] for token in pattern.findall(name))
        if len(body) < 128:
            return bytes((len(body),)) + body
        return bytes((0x80 | len(body) & 0x7F, len(body) >> 7)) + body

    return encode


class Writer:
    def __init__(self, before: bytes, align: int) -> None:
        self.data = bytearray(before)
        self.align = align

    def put(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % self.align)
        start = len(self.data)
        self.data += data
        return start


@cache
def make(layout: str, seed: int, count: int, before: int) -> Table:
    rng = random.Random(seed)
    tokens = tokens_for()
    alphabet = "abcdefghijklmnopqrstuvwxyz_0123456789."
    names = {
        f"{''.join(rng.choices(alphabet, k=rng.randint(1, 24)))}_{i}" for i in range(count - 2)
    }
    names = [*sorted(names), "long" * 60, "phys_base"]
    rng.shuffle(names)
    align = 4 if layout == "7.x" else 8
    address = kallsyms.KERNEL_MAP + 0x0200_0000
    out = Writer(bytes(rng.randrange(1, 256) for _ in range(before)), align)
    image = [rng.randrange(0, 1 << 24) for _ in names]
    encode = encoder(tokens)
    encoded = [encode(b"t" + name.encode()) for name in names]
    starts = [0]
    for item in encoded:
        starts.append(starts[-1] + len(item))
    markers = struct.pack(f"<{(count + 255) // 256}I", *starts[:-1:256])
    relative = struct.pack(f"<{count}i", *(-1 - offset for offset in image))
    base = struct.pack("<Q", BASE)
    if layout in {"5.10", "6.1.y"}:
        out.put(relative)
        out.put(base)
    out.put(struct.pack("<I", count))
    out.put(b"".join(encoded))
    out.put(markers)
    if layout == "6.1.y":
        out.put(b"".join(rng.randrange(count).to_bytes(3, "big") for _ in names))
    start = out.put(b"".join(token + b"\0" for token in tokens))
    digits = start + sum(len(token) + 1 for token in tokens[:48])
    offsets = [sum(len(token) + 1 for token in tokens[:i]) for i in range(256)]
    out.put(struct.pack("<256H", *offsets))
    if layout == "6.12":
        out.put(relative)
        out.align = 8
        out.put(base)
    if layout == "7.x":
        out.put(b"")
        place = len(out.data)
        virtual = [address + (1 << 20) + offset for offset in image]
        out.put(
            struct.pack(
                f"<{count}i", *(v - (address + place + 4 * i) for i, v in enumerate(virtual))
            )
        )
        expected = dict(zip(names, virtual, strict=True))
    else:
        expected = {n: (BASE + o) & kallsyms.MASK for n, o in zip(names, image, strict=True)}
    out.data += bytes(64)
    return Table(bytes(out.data), address, digits, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=12, deadline=None)
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


@settings(max_examples=150, deadline=None)
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
