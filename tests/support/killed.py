"""Work in a child process that is killed with SIGKILL at one of its steps."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable, Coroutine
from typing import Any


class Steps:
    """Counts what a process does, and kills it with SIGKILL at one of the counts."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __call__(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(last: int, work: Callable[[Steps], Coroutine[Any, Any, None]]) -> bool:
    """Do some work in a child that is killed at a step; return whether it came to that.

    work: is given what to call at each of its steps, before anything of it runs.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(work(Steps(last)))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}
    return status != 0
