"""Read what machines write, while they write it. The guest wrote it: every length is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from mizzen.model.log import LogLine, Stream, parse_cri

POLL = 0.2
"""Seconds between looks at a file that may have grown."""

CHUNK = 1 << 18
LINE = 1 << 20
"""Bytes of a line; a longer one comes in pieces."""


async def chunks(path: Path, alive: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield a file's content from its beginning, and what is added to it while ``alive``."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        last = False
        while True:
            if data := file.read(CHUNK):
                yield data
                continue
            if last:
                return
            # What was written until the end is read once more after the end was seen.
            last = not alive()
            if not last:
                await asyncio.sleep(POLL)


async def lines(path: Path, alive: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield a file's lines without their ends; as ``chunks``."""
    rest = b""
    async for data in chunks(path, alive):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if len(rest) > LINE:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace").rstrip("\r")


async def records(path: Path, alive: Callable[[], bool]) -> AsyncIterator[LogLine]:
    """Yield the records of a machine's log, the parts of a long line joined; as ``chunks``."""
    begun: dict[Stream, list[str]] = {}
    async for line in lines(path, alive):
        record = parse_cri(line)
        if record is None:
            continue
        parts = begun.setdefault(record.stream, [])
        parts.append(record.text)
        if not record.partial or sum(map(len, parts)) > LINE:
            yield LogLine(record.time, record.stream, "".join(parts))
            parts.clear()
    for stream, parts in begun.items():
        if parts:
            yield LogLine(None, stream, "".join(parts))
