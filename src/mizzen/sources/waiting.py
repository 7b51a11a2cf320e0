"""Waiting for what comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def either(event: asyncio.Event, other: Coroutine[None, None, None]) -> bool:
    """Wait until an event is set or something else has ended; return whether the event is set."""
    waits = {asyncio.create_task(event.wait()), asyncio.create_task(other)}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
    return event.is_set()
