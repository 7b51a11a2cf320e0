"""Run services in very small virtual machines, and step into one when it fails.

``attach`` enters a running guest from a program; see docs/python.md. ``inspect`` looks at one, or
at a dump file, without entering it; see docs/inspect.md. ``pipeline`` marks a function that says
what is deployed; see docs/pipelines.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mizzen.engine.pipeline import pipeline
from mizzen.engine.policy import Level, Pool, Retry, policy
from mizzen.engine.terms import Term, gather

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from mizzen.control.guests import Guest
    from mizzen.introspection.inspection import Inspection

__all__ = [
    "Level",
    "Pool",
    "Retry",
    "Term",
    "attach",
    "gather",
    "inspect",
    "pipeline",
    "policy",
]

__version__ = "0.1.0"


def attach(
    target: str, *, tools: str | Path | None = None, guest_pid: int | None = None
) -> AbstractAsyncContextManager[Guest]:
    """Enter a running guest; see ``mizzen.control.guests.attach``, which this imports late."""
    from mizzen.control import guests  # noqa: PLC0415 - importing mizzen takes no time

    return guests.attach(target, tools=tools, guest_pid=guest_pid)


def inspect(target: str | Path) -> AbstractContextManager[Inspection]:
    """Look at a guest or a dump; see ``mizzen.control.inspect.inspect``, which is imported late."""
    from mizzen.control import inspect as looking  # noqa: PLC0415 - as above

    return looking.inspect(target)
