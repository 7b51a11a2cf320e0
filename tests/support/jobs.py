"""Jobs for operations that are run without an engine, and a record of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mizzen.engine.clock import HostClock
from mizzen.engine.job import Job
from mizzen.host.paths import Folders
from mizzen.model.job import JobRecord, JobState

RECORD = JobRecord(
    id=0, pipeline="site", operation="make", key="k", digest="d", label="make site", level=1,
    state=JobState.QUEUED, confirmed=False, created=0.0, started=None, ended=None, attempts=0,
    error="",
)  # fmt: skip


def job(
    folders: Folders,
    log: Callable[[str], None] = lambda _: None,
    clock: Any = None,
    world: Any = None,
) -> Job:
    """Return a job. world: what the operation asks of the pipeline around it, if it does."""
    return Job(1, "test", folders, clock or HostClock(), world, log)
