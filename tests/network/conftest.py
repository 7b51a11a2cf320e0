"""A host with an outside, made anew for each test."""

import contextlib
from collections.abc import Iterator

import pytest
from netplane import Network


@pytest.fixture
def net() -> Iterator[Network]:
    with contextlib.ExitStack() as stack:
        yield Network(stack)
