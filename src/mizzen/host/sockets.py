"""Unix sockets whose path may be longer than the 107 bytes that an address holds."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield a short name of the path, by way of its folder's descriptor."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path) -> socket.socket:
    """Listen at a path that nobody listens at, for this user alone. Raises OSError."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            server.bind(address)
        path.chmod(0o600)
        server.listen(8)
    except BaseException:
        server.close()
        raise
    return server


def connect(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Connect to a path; the socket does not block. Raises OSError if nobody listens."""
    client = socket.socket(socket.AF_UNIX, kind)
    try:
        with _address(path) as address:
            client.connect(address)
        client.settimeout(0)
    except BaseException:
        client.close()
        raise
    return client
