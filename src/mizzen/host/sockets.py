"""Unix sockets whose path may be longer than the 107 bytes that an address holds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

_LISTEN_FDS_START = 3  # sd_listen_fds(3)


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


def listen_packets(path: Path, mode: int, group: int | None, backlog: int) -> socket.socket:
    """Listen for SOCK_SEQPACKET at a path, in place of whoever listened there before.

    group: whose members the mode's bits are for; None leaves it this process's. The path is never
    without a socket that is ready: who connects meanwhile reaches one or the other. Raises OSError.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with _address(temporary) as address:
            server.bind(address)
        try:
            temporary.chmod(mode)
            if group is not None:
                os.chown(temporary, -1, group)
            server.listen(backlog)
            temporary.rename(path)
        except BaseException:
            temporary.unlink()
            raise
    except BaseException:
        server.close()
        raise
    return server


def inherited(kind: int) -> socket.socket | None:
    """Return the one listening Unix socket that the service manager handed over; None if none.

    Source: sd_listen_fds(3). Raises OSError for anything but one socket of that kind.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if count != "1":
        raise OSError(errno.EINVAL, f"{count} sockets were handed over instead of one")
    server = socket.socket(fileno=_LISTEN_FDS_START)
    listens = server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if server.family != socket.AF_UNIX or server.type != kind or not listens:
        server.close()
        raise OSError(errno.EINVAL, "what was handed over is no listening socket of that kind")
    server.set_inheritable(False)
    return server


def notify_ready() -> None:
    """Tell the service manager, if there is one, that this service is ready: sd_notify(3)."""
    place = os.environ.pop("NOTIFY_SOCKET", "")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"READY=1", "\0" + place[1:] if place.startswith("@") else place)


def connect(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Connect to a path; the socket does not block.

    Raises OSError if nobody listens, BlockingIOError if too many wait to be accepted.
    """
    client = socket.socket(socket.AF_UNIX, kind)
    try:
        client.settimeout(0)
        with _address(path) as address:
            client.connect(address)
    except BaseException:
        client.close()
        raise
    return client


async def readable(connection: socket.socket) -> None:
    """Wait until a socket can be read, or its other end has gone."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)
