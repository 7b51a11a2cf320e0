"""What a rollout is handed in: who starts and stops releases, and where everything is."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Protocol

from mizzen.model.progress import Report
from mizzen.model.service import Release, Service
from mizzen.network.client import Network


class Starter(Protocol):
    """Starts and stops what releases are."""

    async def start(self, service: Service, release: Release) -> Release:
        """Start a release, and return it with its addresses, ports and spec.

        One without a source runs already and is only found. Raises Failure, and leaves nothing
        then that was not there before. Cancelled, it leaves nothing either.
        """
        ...

    async def ended(self, release: Release) -> str:
        """Wait until a release has ended, and return why; for ever where that cannot be seen."""
        ...

    async def stop(self, release: Release, grace: float) -> None:
        """Stop a release and wait for its end; what has ended or is gone is well as it is."""
        ...

    async def remove(self, release: Release) -> None:
        """Forget what is left of a release that has ended: its machine, link and addresses."""
        ...

    def keep(self, release: Release) -> str:
        """Record what tells why a release failed; return where to look, as an instruction."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What rollouts work with."""

    connection: sqlite3.Connection
    network: Network
    starter: Starter
    report: Report
