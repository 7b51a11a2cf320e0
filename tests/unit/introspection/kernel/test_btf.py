"""The kernel's types are read from its BTF, whatever a guest put there."""

from __future__ import annotations

import contextlib
import struct

import pytest
from btf import UNION, Types
from hypothesis import given
from hypothesis import strategies as st

from mizzen.introspection.kernel.btf import Btf, Field, Unknown, candidates


def sample() -> tuple[Types, Btf]:
    types = Types()
    number = types.integer("int", 4, signed=True)
    byte = types.integer("unsigned char", 1)
    long = types.typedef("u64", types.integer("unsigned long", 8))
    inner = types.struct("", 8, ("low", number, 0), ("high", number, 4))
    choice = types.struct("", 8, ("whole", long, 0), ("", inner, 0), kind=UNION)
    types.struct("node", 16, ("next", types.count + 2, 0), ("", choice, 8))
    types.pointer(types.count)
    name = types.array(byte, 16)
    types.struct("thing", 40, ("node", types.count - 2, 0), ("name", name, 16), ("id", long, 32))
    types.struct("flags", 4, ("a", number, 0, 5), ("level", byte, 5, 3), ("b", number, 8, 12))
    types.enum("kind", FIRST=0, SECOND=7)
    return types, Btf(types.blob())


def test_members_of_nameless_members_are_found():
    _, types = sample()
    node = types.find("node")
    assert types.field(node, "whole").offset == 8
    assert types.field(node, "high") == Field(12, 4, 1)


def test_a_path_leads_into_members():
    _, types = sample()
    thing = types.find("thing")
    assert types.field(thing, "node.low").offset == 8
    assert types.field(thing, "name").size == 16


def test_the_first_of_several_names_that_exists_counts():
    _, types = sample()
    assert types.field(types.find("nothing|thing"), "tag|id").offset == 32


def test_bit_fields_have_bits():
    _, types = sample()
    flags = types.find("flags")
    level = types.field(flags, "level")
    assert (level.offset, level.size, level.bits, level.shift) == (0, 1, 3, 5)
    b = types.field(flags, "b")
    assert (b.offset, b.size, b.bits, b.shift) == (1, 2, 12, 0)


def test_what_pointers_and_arrays_are_of():
    _, types = sample()
    node = types.find("node")
    assert types.element(types.field(node, "next").type) == node
    name = types.field(types.find("thing"), "name").type
    assert types.size(types.element(name)) == 1


def test_signedness_is_that_of_the_integer_behind_typedefs():
    _, types = sample()
    thing = types.find("thing")
    assert not types.signed(types.field(thing, "id").type)
    assert types.signed(types.field(thing, "node.low").type)


def test_an_enums_values():
    _, types = sample()
    assert types.enum("kind") == {"FIRST": 0, "SECOND": 7}


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (lambda t: t.find("task_struct"), "no type task_struct"),
        (lambda t: t.field(t.find("thing"), "pid|tid"), "no member pid or tid in thing"),
        (lambda t: t.enum("thing"), "thing as no enum"),
        (lambda t: t.element(t.find("thing")), "no array or pointer"),
    ],
)
def test_what_is_missing_is_named(look, words):
    _, types = sample()
    with pytest.raises(Unknown, match=words):
        look(types)


def test_types_that_lead_in_circles_end():
    types = Types()
    types.typedef("a", 2)
    types.typedef("b", 1)
    types.struct("", 8, ("", 3, 0))
    types.array(4, 2)
    found = Btf(types.blob())
    for look in (found.size, found.signed, found.element, lambda t: found.field(t, "x")):
        for type_ in range(6):
            with contextlib.suppress(Unknown):
                look(type_)


def test_a_kind_of_the_future_is_refused():
    types = Types()
    types.add(31, "later", 0)
    with pytest.raises(Unknown, match="kind 31"):
        Btf(types.blob())


def test_the_largest_blob_in_an_image_comes_first():
    small, large = Types(), Types()
    small.integer("int", 4)
    large.integer("int", 4)
    large.integer("long", 8)
    image = b"x" * 99 + small.blob() + b"\x9f\xeb\x01\x00" + bytes(7) + large.blob() + b"y" * 50
    found = [image[at : at + size] for at, size in candidates(image)]
    assert found == [large.blob(), small.blob()]


@given(st.binary(max_size=200))
def test_any_bytes_are_types_or_refused(data):
    with contextlib.suppress(Unknown):
        Btf(data)
    list(candidates(data))
    list(candidates(b"\x9f\xeb\x01\x00" + data))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12))
def test_damaged_types_are_read_or_refused(changes):
    types, _ = sample()
    blob = bytearray(types.blob())
    for at, value in changes:
        if 4 <= at < len(blob):
            blob[at] = value
    with contextlib.suppress(Unknown):
        damaged = Btf(bytes(blob))
        for name in ("node", "thing", "flags", "kind"):
            for path in ("next", "whole", "node.low", "name", "level"):
                with contextlib.suppress(Unknown):
                    member = damaged.field(damaged.find(name), path)
                    damaged.element(member.type)
            with contextlib.suppress(Unknown):
                damaged.enum(name)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=60))
def test_any_records_are_read_or_refused(words):
    types = struct.pack(f"<{len(words)}I", *words)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 3)
    with contextlib.suppress(Unknown):
        found = Btf(head + types + b"\0a\0")
        for type_ in range(len(words)):
            for look in (found.size, found.signed, found.element, found.name):
                with contextlib.suppress(Unknown):
                    look(type_)
            with contextlib.suppress(Unknown):
                found.field(type_, "a.a|a")
