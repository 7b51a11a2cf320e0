from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mizzen.cli.terminal import harmless


def test_escape_sequences_show_instead_of_act():
    assert harmless("\x1b]0;title\x07\tok") == "\\x1b]0;title\\x07\tok"


@given(st.text())
def test_nothing_that_controls_a_terminal_is_left(text):
    shown = harmless(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert not any(0x7F <= ord(c) < 0xA0 for c in shown)
