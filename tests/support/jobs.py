"""Jobs for operations that are run without an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mizzen.engine.clock import HostClock
from mizzen.engine.job import Job
from mizzen.host.paths import Folders


def job(
    folders: Folders,
    log: Callable[[str], None] = lambda _: None,
    clock: Any = None,
    world: Any = None,
) -> Job:
    """Return a job. world: what the operation asks of the pipeline around it, if it does."""
    return Job(1, "test", folders, clock or HostClock(), world, log)
