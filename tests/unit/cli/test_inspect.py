"""Figures are shown as people read them."""

from __future__ import annotations

import pytest

from mizzen.cli.inspect import _printable, _size, _span


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, None), (5.9, "5 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_has_its_two_largest_units(seconds, shown):
    assert _span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (0, "0 B"), (4096, "4.0 KiB"), (12 << 20, "12 MiB"), (3 << 30, "3.0 GiB")],
)
def test_a_size_has_its_largest_unit(count, shown):
    assert _size(count) == shown


def test_what_steers_terminals_is_replaced():
    assert _printable("a\x1b[2J\x9bc\u202eb") == "a?[2J?c?b"
