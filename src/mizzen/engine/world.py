"""What operations may know of the pipeline around them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mizzen.model.job import Outcome
from mizzen.store import outcomes
from mizzen.store.database import transaction


@dataclass(frozen=True, slots=True)
class PipelineWorld:
    """The ``World`` of an engine's jobs. wanted, known: see there; by default there is nothing."""

    connection: sqlite3.Connection
    pipeline: str
    wanted: Callable[[str], frozenset[str]] = lambda _: frozenset()
    known: Callable[[], Iterable[object]] = tuple

    def published(self, operation: str) -> Sequence[Outcome]:
        """Return what this pipeline has ever set by a publication and not forgotten."""
        return outcomes.of_pipeline(self.connection, operation, self.pipeline)

    def forget(self, operation: str, key: str) -> None:
        """Forget a key that has been taken back."""
        with transaction(self.connection):
            outcomes.forget(self.connection, operation, key)
