"""Requests are whole again, however the channel cut them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.sessions.serving import LEAST, Requests


def request(body: bytes) -> bytes:
    return (LEAST + len(body)).to_bytes(4, "little") + bytes(LEAST - 4) + body


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(1, 300))
def test_requests_come_one_by_one(bodies, step):
    requests = [request(body) for body in bodies]
    data = b"".join(requests)
    taken = Requests()
    got = [r for at in range(0, len(data), step) for r in taken.feed(data[at : at + step])]
    assert got == requests


@pytest.mark.parametrize("size", [0, LEAST - 1, 1 << 20, (1 << 32) - 1])
def test_a_length_that_cannot_be_ends_the_session(size):
    with pytest.raises(Failure, match="spoiled"):
        list(Requests().feed(size.to_bytes(4, "little") + bytes(100)))


@given(st.binary(max_size=500))
def test_any_bytes_are_taken_or_refused(data):
    with contextlib.suppress(Failure):
        for found in Requests().feed(data):
            assert len(found) >= LEAST
