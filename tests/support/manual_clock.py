"""A clock that tests wind on."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Stands still until it is told how much time passes."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), over))
        await over

    @property
    def sleepers(self) -> list[float]:
        """Seconds from now until each that sleeps wakes."""
        return sorted(at - self.now for at, _, over in self._sleepers if not over.done())

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            _, _, over = heapq.heappop(self._sleepers)
            if not over.done():
                over.set_result(None)
