"""The guest's lists are followed to their end, or as far as they make sense."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel import BASE, Kernel

from mizzen.introspection.kernel.objects import Objects
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.views.lists import REMOVED, Broken, Limit, collected, nodes, tree


def linked(kernel: Kernel, *places: int) -> None:
    """Link entries at offsets into a list whose head comes first."""
    for number, place in enumerate(places):
        following = places[(number + 1) % len(places)]
        kernel.put(place, BASE + following, BASE + places[number - 1])


def limit(steps: int = 1000) -> Limit:
    return Limit(float("inf"), steps)


def offsets(found: Iterator[int]) -> list[int]:
    return [node - BASE for node in found]


def test_a_list_is_followed_to_its_head():
    kernel = Kernel()
    linked(kernel, 0x100, 0x400, 0x200, 0x300)
    found = nodes(Objects(kernel, None), BASE + 0x100, limit())
    assert offsets(found) == [0x400, 0x200, 0x300]


def test_an_empty_list():
    kernel = Kernel()
    linked(kernel, 0x100)
    assert offsets(nodes(Objects(kernel, None), BASE + 0x100, limit())) == []


def test_an_entry_that_is_being_removed_leads_on():
    kernel = Kernel()
    linked(kernel, 0x100, 0x200, 0x300)
    kernel.put(0x208, REMOVED)
    assert offsets(nodes(Objects(kernel, None), BASE + 0x100, limit())) == [0x200, 0x300]


@pytest.mark.parametrize("back", [0, BASE + 0x500])
def test_an_entry_without_a_way_back_ends_the_list(back):
    kernel = Kernel()
    linked(kernel, 0x100, 0x200, 0x300)
    kernel.put(0x308, back)
    with pytest.raises(Broken, match="does not belong"):
        offsets(nodes(Objects(kernel, None), BASE + 0x100, limit()))


def test_a_loop_that_misses_the_head_ends():
    kernel = Kernel()
    linked(kernel, 0x100, 0x200, 0x300)
    kernel.put(0x300, BASE + 0x200)
    with pytest.raises(Broken):
        offsets(nodes(Objects(kernel, None), BASE + 0x100, limit()))


def test_a_list_without_end_is_left():
    kernel = Kernel()
    linked(kernel, *range(0x100, 0x8000, 16))
    with pytest.raises(Broken, match="goes on"):
        offsets(nodes(Objects(kernel, None), BASE + 0x100, limit(100)))


def test_a_tree_is_read_in_order():
    kernel = Kernel()
    kernel.put(0x80, BASE + 0x200)
    kernel.put(0x200, 0, BASE + 0x300, BASE + 0x100)
    kernel.put(0x300, 0, 0, BASE + 0x280)
    assert offsets(tree(Objects(kernel, None), BASE + 0x80, limit())) == [
        0x100, 0x200, 0x280, 0x300,
    ]  # fmt: skip


@given(st.lists(st.sampled_from([0, *range(0x100, 0x400, 24), 1 << 40]), min_size=33, max_size=33))
def test_any_tree_ends(words):
    kernel = Kernel()
    kernel.put(0x80, BASE + 0x100)
    kernel.put(0x100, *(word and BASE + word for word in words))
    try:
        found = offsets(tree(Objects(kernel, None), BASE + 0x80, limit()))
        assert len(found) == len(set(found))
    except (Broken, BadAddress):
        pass


@given(st.lists(st.sampled_from([*range(0x100, 0x200, 16), 1 << 40]), min_size=32, max_size=32))
def test_any_list_ends(words):
    kernel = Kernel()
    kernel.put(0x100, *(BASE + word for word in words))
    with contextlib.suppress(Broken, BadAddress):
        offsets(nodes(Objects(kernel, None), BASE + 0x100, limit()))


def test_what_comes_before_a_break_is_kept_with_the_reason():
    def found(limit: Limit) -> Iterator[int]:
        limit.spend()
        yield 1
        raise Broken("the entry is gone")

    listing = collected(found)
    assert listing.items == (1,)
    assert "the entry is gone" in listing.incomplete


def test_a_list_that_was_changing_is_read_again():
    attempts = []

    def found(limit: Limit) -> Iterator[int]:
        attempts.append(limit)
        yield len(attempts)
        if len(attempts) < 2:
            raise BadAddress("moved")

    assert collected(found).items == (2,)
    assert not collected(found).incomplete


def test_a_view_holds_so_much_text_and_no_more():
    def found(limit: Limit) -> Iterator[str]:
        limit.text = 1000
        while True:
            limit.hold("x" * 100)
            yield "x" * 100

    listing = collected(found)
    assert 0 < len(listing) < 10
    assert "it says more" in listing.incomplete
