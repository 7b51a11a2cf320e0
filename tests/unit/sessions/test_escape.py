"""The escape is found wherever the bytes are cut, and everything else passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mizzen.sessions.escape import Escape


def through(*typed: bytes) -> tuple[bytes, bool]:
    escape = Escape()
    passed = b"".join(escape.filter(part) for part in typed)
    return passed, escape.left


def test_a_tilde_and_a_dot_at_the_start_of_a_line_leave():
    assert through(b"ls\r~.") == (b"ls\r", True)
    assert through(b"~.") == (b"", True)


def test_elsewhere_they_are_just_typed():
    assert through(b"cd ~.") == (b"cd ~.", False)
    assert through(b"\r~a") == (b"\r~a", False)


def test_two_tildes_are_one():
    assert through(b"\r~~.") == (b"\r~.", False)


@given(st.lists(st.sampled_from([b"~", b".", b"\r", b"a", b"\x03"]), max_size=12), st.data())
def test_cutting_the_input_changes_nothing(keys, data):
    whole = b"".join(keys)
    cut = data.draw(st.integers(0, len(whole)))
    assert through(whole) == through(whole[:cut], whole[cut:])
