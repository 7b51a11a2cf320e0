"""Processes that end with the block they belong to, also when a test fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Yield a process, and kill it at the end if it still runs: Popen itself would wait for it."""
    with process:
        try:
            yield process
        finally:
            process.kill()
