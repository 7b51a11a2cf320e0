"""Which of nftables' messages tell that the daemon's table is gone."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.network.netlink import attribute
from mizzen.network.removal import tells_removal

NEW, DELETED, DELETED_CHAIN = 0x0A00, 0x0A02, 0x0A05
INET, IP = 1, 2


def message(kind: int, family: int, name: str) -> bytes:
    body = struct.pack("=BBH", family, 0, 0) + attribute(1, name.encode() + b"\0")
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_the_table_s_removal_is_told_wherever_it_stands_in_a_packet() -> None:
    others = message(DELETED_CHAIN, INET, "mizzen") + message(DELETED, INET, "filter")
    assert tells_removal(message(DELETED, INET, "mizzen"))
    assert tells_removal(others + message(DELETED, INET, "mizzen") + others)


@pytest.mark.parametrize(
    ("kind", "family", "name"),
    [(DELETED, INET, "mizzen2"), (DELETED, IP, "mizzen"), (NEW, INET, "mizzen")],
)
def test_other_changes_are_not(kind: int, family: int, name: str) -> None:
    assert not tells_removal(message(kind, family, name))


@given(st.binary(min_size=1, max_size=200))
def test_nonsense_is_no_removal(packet: bytes) -> None:
    assert not tells_removal(packet)
