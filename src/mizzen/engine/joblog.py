"""Logs of jobs: lines are collected and written a few times a second, and at a job's end."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

from mizzen.model.job import JobLine
from mizzen.store import jobs as store
from mizzen.store.database import transaction

from .job import Clock

DELAY = 0.2
"""Seconds that a line waits for others to be written with."""

LINE_MAX = 4096
"""Characters of a line."""


class JobLogs:
    """Writes jobs' logs, and tells whoever follows them."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._next: dict[int, int] = {}
        self._lines: list[tuple[int, JobLine]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.written = asyncio.Event()
        """Set once more is written or a job has ended; another one has its place then."""

    def write(self, job: int, text: str) -> None:
        """Add a line, or several that newlines part."""
        if job not in self._next:
            self._next[job] = store.count_lines(self._connection, job)
        for number, part in enumerate(text.splitlines() or [""], self._next[job]):
            self._lines.append((job, JobLine(number, self._clock.time(), part[:LINE_MAX])))
            self._next[job] = number + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._flush)

    def flush(self) -> None:
        """Write what is collected; inside or outside of a transaction. Raises sqlite3.Error."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        if self._connection.in_transaction:
            store.write_lines(self._connection, lines)
        else:
            with transaction(self._connection):
                store.write_lines(self._connection, lines)
        self.tell()

    def tell(self) -> None:
        """Wake whoever follows: something is written, or a job has ended."""
        written, self.written = self.written, asyncio.Event()
        written.set()

    def close(self, job: int) -> None:
        """Forget a log that gets no more lines."""
        self._next.pop(job, None)

    def _flush(self) -> None:
        self._timer = None
        with contextlib.suppress(sqlite3.Error):  # a full disk: the job's end tells of it
            self.flush()
