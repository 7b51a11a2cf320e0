"""States are named as ps names them."""

from __future__ import annotations

import pytest

from mizzen.introspection.views.processes import state


@pytest.mark.parametrize(
    ("running", "ended", "letter"),
    [
        (0, 0, "R"),
        (0x1, 0, "S"),
        (0x2001, 0, "S"),  # freezable
        (0x2, 0, "D"),
        (0x102, 0, "D"),  # killable
        (0x4, 0, "T"),
        (0x8, 0, "t"),
        (0x80, 0x10, "X"),
        (0x80, 0x20, "Z"),
        (0x40, 0, "P"),
        (0x402, 0, "I"),
        (0x2402, 0, "I"),
        (0x1000, 0, "D"),  # a lock of the real-time kernel
        (0x8000, 0, "D"),  # frozen
        (-1, -1, "D"),
    ],
)
def test_the_letter_of_a_state(running, ended, letter):
    assert state(running, ended) == letter
