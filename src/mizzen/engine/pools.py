"""Pools: how many jobs of a kind run at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from .policy import Pool


class Pools:
    """The pools of an engine."""

    def __init__(self) -> None:
        self._pools: dict[str, asyncio.Semaphore] = {}
        self._sizes: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        """Jobs that wait for a place, by pool."""
        self.running: dict[str, int] = {}
        """Jobs that have a place, by pool."""

    @contextlib.asynccontextmanager
    async def place(self, pool: Pool | None) -> AsyncIterator[None]:
        """Hold a place in a pool while the block lasts; first come, first served."""
        if pool is None:
            yield
            return
        self._sizes.setdefault(pool.name, pool.size)
        places = self._pools.setdefault(pool.name, asyncio.Semaphore(pool.size))
        self.waiting[pool.name] = self.waiting.get(pool.name, 0) + 1
        try:
            await places.acquire()
        finally:
            self.waiting[pool.name] -= 1
        self.running[pool.name] = self.running.get(pool.name, 0) + 1
        try:
            yield
        finally:
            self.running[pool.name] -= 1
            places.release()
