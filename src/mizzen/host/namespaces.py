"""Namespaces without names: one lives as long as a descriptor of it or a process in it.

So whoever is killed leaves none behind. All but user namespaces need root, or to be in one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

NETWORK, USER = 0x40000000, 0x10000000
"""Kinds of namespaces: CLONE_NEWNET and CLONE_NEWUSER of clone(2)."""

_SETTINGS = {
    "kernel.unprivileged_userns_clone": 1,  # Debian's own
    "user.max_user_namespaces": 10000,
    "user.max_net_namespaces": 10000,
}


def forbidding() -> str:
    """Return what has to be set (NAME=VALUE) where this host allows no user or network namespaces.

    It is "" where it allows processes without capabilities to make them. Source: namespaces(7).
    """
    for name, value in _SETTINGS.items():
        path = Path("/proc/sys", *name.split("."))
        if path.exists() and path.read_text().strip() == "0":
            return f"{name}={value}"
    return ""


def enter_new(kind: int) -> None:
    """Put this process, which has no threads, into a new namespace of a kind.

    In a new user namespace it has every capability there, and none outside. Raises OSError.
    """
    _call(_libc.unshare, kind)


def enter(descriptor: int, kind: int) -> None:
    """Put this thread into a namespace of a kind. Raises OSError."""
    _call(_libc.setns, descriptor, kind)


def current() -> int:
    """Return a descriptor of this thread's network namespace, which the caller owns."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class NetworkNamespace:
    """A new network namespace, with nothing but a loopback that is down. Raises OSError."""

    def __init__(self) -> None:
        before = current()
        try:
            enter_new(NETWORK)
            try:
                self.descriptor = current()
            finally:
                enter(before, NETWORK)
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
        before = current()
        thread = threading.get_ident()
        try:
            enter(self.descriptor, NETWORK)
            try:
                yield
            finally:
                assert threading.get_ident() == thread
                enter(before, NETWORK)
        finally:
            os.close(before)

    def inside(self, *arguments: str) -> list[str]:
        """Return a command that runs in it."""
        return ["nsenter", f"--net={self.path}", "--", *arguments]

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)


def _call(function: ctypes._NamedFuncPointer, *arguments: int) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
