"""The user's terminal: connected raw to a socket, and kept from what guests write."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

from mizzen.host import sockets
from mizzen.host.raw import raw
from mizzen.model.errors import Failure

ESCAPE = b"\x1d"  # Ctrl-]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Return text whose control characters show instead of act; tabs stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


async def connect(path: Path, what: str) -> None:
    """Pass bytes between stdin, stdout and a Unix socket until either side ends or Ctrl-].

    what: begins the Failure that is raised if nobody listens.
    """
    try:
        connection = sockets.connect(path)
    except OSError as error:
        raise Failure(
            what, error.strerror or str(error), "the machine may just have ended"
        ) from error
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    loop = asyncio.get_running_loop()
    left = asyncio.Event()

    def typed() -> None:
        data = os.read(0, 4096)
        keys, escape, _ = data.partition(ESCAPE)
        writer.write(keys)
        if escape or not data:
            loop.remove_reader(0)
            left.set()

    async def show() -> None:
        while data := await reader.read(4096):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    with raw(0):
        with contextlib.suppress(PermissionError):  # a file says nothing by itself: only show
            loop.add_reader(0, typed)
        showing = asyncio.create_task(show())
        leaving = asyncio.create_task(left.wait())
        try:
            await asyncio.wait({showing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(0)
            showing.cancel()
            leaving.cancel()
            writer.close()
