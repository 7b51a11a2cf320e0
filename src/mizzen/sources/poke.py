"""Waking those who follow a repository of another host, when somebody says that it changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from .repository import same

_listening: dict[str, set[asyncio.Event]] = {}


@contextlib.contextmanager
def listening(repository: str) -> Iterator[asyncio.Event]:
    """Yield an event that is set each time the repository is poked. Clear it before looking."""
    poked = asyncio.Event()
    name = same(repository)
    _listening.setdefault(name, set()).add(poked)
    try:
        yield poked
    finally:
        _listening[name].discard(poked)
        if not _listening[name]:
            del _listening[name]


def poke(repository: str) -> int:
    """Have a repository looked at, under any of its URLs; return how many follow it.

    Call it in the thread of the event loop that they run in.
    """
    found = _listening.get(same(repository), set())
    for poked in found:
        poked.set()
    return len(found)
