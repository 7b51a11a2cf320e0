"""Network namespaces without names: one lives as long as a descriptor of it or a process in it.

So whoever is killed leaves none behind. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class NetworkNamespace:
    """A new network namespace, with nothing but a loopback that is down. Raises OSError."""

    def __init__(self) -> None:
        before = _current()
        try:
            _call(_libc.unshare, _CLONE_NEWNET)
            try:
                self.descriptor = _current()
            finally:
                _call(_libc.setns, before, _CLONE_NEWNET)
        finally:
            os.close(before)

    @property
    def path(self) -> Path:
        """Where other processes of this user find it while this one has it open."""
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it while the block lasts, with this thread alone: sockets made there stay there.

        A coroutine does not wait inside, unless it is the only one and its whole thread belongs
        there. Raises OSError.
        """
        before = _current()
        thread = threading.get_ident()
        try:
            _call(_libc.setns, self.descriptor, _CLONE_NEWNET)
            try:
                yield
            finally:
                assert threading.get_ident() == thread
                _call(_libc.setns, before, _CLONE_NEWNET)
        finally:
            os.close(before)

    def inside(self, *arguments: str) -> list[str]:
        """Return a command that runs in it."""
        return ["nsenter", f"--net={self.path}", "--", *arguments]

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _call(function: ctypes._NamedFuncPointer, *arguments: int) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
