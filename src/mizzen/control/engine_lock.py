"""One process at a time has the pipelines of a state folder: ``mizzen up``, or ``mizzen down``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from mizzen.host.files import explained, locked
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure


@contextlib.contextmanager
def held(folders: Folders, what: str, fix: str) -> Iterator[None]:
    """Be that process while the block lasts.

    what, fix: of the Failure if there is another one. Raises Failure.
    """
    lock = folders.engine_lock
    with contextlib.ExitStack() as stack:
        with explained(what):
            who = holder(folders)
            why = f"a mizzen up or down runs with {folders.state}" + (f", {who}" if who else "")
            stack.enter_context(locked(lock, Failure(what, why, fix)))
            lock.write_text(f"{os.getpid()}\n")
        yield


@contextlib.contextmanager
def tried(folders: Folders) -> Iterator[bool]:
    """Be that process while the block lasts, unless there is another one; yield whether."""
    busy = Failure("cannot have the pipelines", "another process has them")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folders.engine_lock, busy))
        except Failure:
            yield False
            return
        yield True


def holder(folders: Folders) -> str:
    """Return "pid N" of who has the lock, or had it last; "" if nobody ever had."""
    lock = folders.engine_lock
    pid = lock.read_text().strip() if lock.exists() else ""
    return f"pid {pid}" if pid else ""
