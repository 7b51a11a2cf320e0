"""A process of this program's own that serves this one through a socket, and ends with it.

It is forked before this process holds anything that others wait for, such as a lock or a listening
socket, so nothing of that outlives a SIGKILL of this one in the other's copies.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable
from typing import NoReturn


class Forked:
    """The process, and a socket (SOCK_SEQPACKET) to it that does not block."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        """Run a function in a new process; it is given the other end of the socket, which blocks.

        It has no other descriptors but the standard ones, and takes no notice of SIGTERM and
        SIGINT: it ends when the function returns, as it should at the end of what the socket
        gives. Raises OSError.
        """
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._pid = os.fork()
            except BaseException:
                self.connection.close()
                raise
            if self._pid == 0:
                _run(serve, theirs)
        self.connection.settimeout(0)

    def close(self) -> None:
        """Close the socket and wait for the end of the process."""
        self.connection.close()
        os.waitpid(self._pid, 0)


def _run(serve: Callable[[socket.socket], None], connection: socket.socket) -> NoReturn:
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        end, kept = resource.getrlimit(resource.RLIMIT_NOFILE)[0], connection.fileno()
        os.closerange(3, kept)
        os.closerange(kept + 1, end)
        with contextlib.suppress(ConnectionError):  # whom it serves has been killed
            serve(connection)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
