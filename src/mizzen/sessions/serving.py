"""Tools that stay on the host: the guest's kernel asks for them by FUSE, through a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from mizzen.model.errors import Failure

from .channel import FRAME_MAX, FrameType, Spoiled, printable
from .link import Link
from .stream import Stream

LEAST = 40
"""Bytes of struct fuse_in_header (include/uapi/linux/fuse.h), which begins with the length."""


@asynccontextmanager
async def served(link: Link, answer: Callable[[bytes], bytes | None]) -> AsyncIterator[None]:
    """Answer the guest's requests as long as the block lasts, and begin it when they lead here.

    answer: returns the reply to a request, None if it needs none.
    Raises Failure if the guest cannot mount what is served.
    """
    stream = await link.open(FrameType.SERVE, b"", "cannot serve the tools")
    standing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(_answer(stream, answer, standing))
    try:
        await asyncio.wait({task, standing}, return_when=asyncio.FIRST_COMPLETED)
        if not standing.done():
            await task
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Failure):
            await task
        if not stream.over:
            stream.cancel()


async def _answer(
    stream: Stream, answer: Callable[[bytes], bytes | None], standing: asyncio.Future[None]
) -> None:
    requests = Requests()
    errors = b""
    while (frame := await stream.receive()).kind != FrameType.EXIT:
        if frame.kind == FrameType.READY:
            standing.set_result(None)
        elif frame.kind == FrameType.ERRORS:
            errors = (errors + frame.payload)[:1024]
        elif frame.kind == FrameType.OUTPUT:
            for request in requests.feed(frame.payload):
                reply = answer(request)
                if reply is not None:
                    await stream.send_message(reply)
    raise Failure(stream.what, printable(errors) or "the guest no longer asks for them")


class Requests:
    """Takes requests in pieces."""

    def __init__(self) -> None:
        """Expect the beginning of one."""
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the requests that are whole. Raises Failure for a length that cannot be."""
        self._pending += data
        while len(self._pending) >= LEAST:
            size = int.from_bytes(self._pending[:4], "little")
            if not LEAST <= size <= FRAME_MAX:
                raise Spoiled
            if len(self._pending) < size:
                return
            request = bytes(self._pending[:size])
            del self._pending[:size]
            yield request
