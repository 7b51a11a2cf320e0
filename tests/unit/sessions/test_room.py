"""Tools are copied, served or refused by their size and by what the guest has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.sessions.room import Way, way

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "count", "available", "expected"),
    [
        (2 * MIB, 400, 100 * MIB, Way.COPY),
        (2 * MIB, 400, 0, Way.COPY),
        (9 * MIB, 10, 1000 * MIB, Way.SERVE),
        (6 * MIB, 10, 10 * MIB, Way.SERVE),
        (2 * MIB, 100_000, 1000 * MIB, Way.SERVE),
        (1024 * MIB, 30_000, 60 * MIB, Way.SERVE),
    ],
)
def test_small_tools_are_copied_and_large_ones_served(
    size: int, count: int, available: int, expected: Way
) -> None:
    assert way(size=size, count=count, available=available, fuse=True) is expected


def test_without_fuse_what_fits_is_copied() -> None:
    assert way(size=80 * MIB, count=1500, available=200 * MIB, fuse=False) is Way.COPY


def test_without_fuse_what_does_not_fit_is_refused_with_the_sizes() -> None:
    with pytest.raises(Failure) as failure:
        way(size=80 * MIB, count=1024, available=100 * MIB, fuse=False)
    assert "they need 81 MiB, the guest may give 50 MiB (50 % of the 100 MiB" in failure.value.why
    assert "smaller tools" in failure.value.fix


@given(
    size=st.integers(0, 1 << 40),
    count=st.integers(0, 1 << 20),
    available=st.integers(0, 1 << 40),
    fuse=st.booleans(),
)
def test_no_more_is_copied_than_half_of_what_is_available(
    size: int, count: int, available: int, *, fuse: bool
) -> None:
    try:
        chosen = way(size=size, count=count, available=available, fuse=fuse)
    except Failure:
        assert not fuse
        return
    assert chosen is Way.COPY or fuse
    assert chosen is Way.SERVE or size <= max(available // 2, 4 * MIB)
