"""The time of this host."""

from __future__ import annotations

import asyncio
import time


class HostClock:
    """The ``Clock`` of an engine that serves."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""
        await asyncio.sleep(seconds)
