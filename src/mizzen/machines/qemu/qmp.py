"""QEMU's monitor: one short conversation at a time, since it serves one client at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from qemu.qmp import ExecuteError, QMPClient, QMPError

from mizzen.host import sockets
from mizzen.model.errors import Failure

TIMEOUT = 30
"""Seconds until a QEMU that runs at all has answered, on a very busy host."""

# Its messages repeat what the exception says.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


@contextlib.asynccontextmanager
async def conversation(path: Path, what: str) -> AsyncIterator[QMPClient]:
    """Yield a connected client; whatever goes wrong becomes a Failure that begins with ``what``."""
    client = QMPClient()
    try:
        async with asyncio.timeout(TIMEOUT):
            await client.connect(sockets.connect(path))
            try:
                yield client
            finally:
                with contextlib.suppress(QMPError, EOFError, OSError):
                    await client.disconnect()
    except TimeoutError as error:
        raise Failure(what, f"QEMU did not answer within {TIMEOUT} s", "try again") from error
    except (QMPError, EOFError, OSError) as error:
        why = " ".join(str(error).split()) or "QEMU closed its monitor"
        raise Failure(what, f"QEMU's monitor: {why}", "try again") from error


async def go(client: QMPClient) -> None:
    """Let the CPUs of a machine run that was started with ``-S``; it may end before the answer."""
    try:
        await client.execute("cont")
    except ExecuteError:
        raise
    except (QMPError, EOFError, OSError):
        pass


async def monitor(client: QMPClient, line: str) -> str:
    """Run a command of the human monitor and return its text."""
    text = await client.execute("human-monitor-command", {"command-line": line})
    return str(text)
