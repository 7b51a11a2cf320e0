"""Talk to a machine's init through its port ``org.mizzen.control``."""

from __future__ import annotations

import asyncio

from mizzen.host import sockets

from .files import MachineFiles

ANSWER = 256
"""Bytes of an answer that are read."""


async def command(files: MachineFiles, line: str, seconds: float) -> str | None:
    """Give init a command and return its answer: "ok" or "error WHY".

    None if there was none within ``seconds``: the guest is not up yet, hangs or is gone. A
    command that was given before the guest was up is obeyed once it is.
    """
    try:
        connection = sockets.connect(files.control)
    except OSError:
        return None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            await loop.sock_sendall(connection, f"{line}\n".encode())
            answer = b""
            while not answer.endswith(b"\n") and len(answer) < ANSWER:
                data = await loop.sock_recv(connection, ANSWER)
                if not data:
                    return None
                answer += data
            return answer.decode(errors="replace").rstrip("\n")
    except (TimeoutError, OSError):
        return None
    finally:
        connection.close()
