"""What a process has mapped is read, and what may be RAM is told from what cannot be."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from mizzen.introspection.memory import mappings

MAPS = """\
55d0c0000000-55d0c0a00000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0010000000 rw-s 00000000 00:01 1234                       /memfd:mem (deleted)
7f0020000000-7f0080000000 rwxp 00000000 00:00 0
7f0090000000-7f0090001000 r--p 00000000 fe:00 42                         /usr/lib/x y.so
"""


def test_ram_is_plain_data_and_the_largest_comes_first():
    found = mappings.candidates(mappings.parse(MAPS))
    assert [m.start for m in found] == [0x7F0000000000, 0x55D0C0000000]
    assert found[0].shared
    assert found[0].path == "/memfd:mem (deleted)"
    assert (found[0].device, found[0].inode) == ("00:01", 1234)


def test_this_process_can_be_read():
    assert any("[stack]" in m.path for m in mappings.of_process(os.getpid()))


@given(st.text())
def test_any_text_is_read_without_complaint(text):
    mappings.parse(text)
