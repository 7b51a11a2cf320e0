"""What every driver does; the registry knows no more of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mizzen.host.process import ProcessId
from mizzen.model.machine import MachineSpec

from .files import MachineFiles


@dataclass(frozen=True, slots=True)
class Running:
    """A VMM that a driver started.

    ports: (host port, guest port) as really published.
    """

    process: ProcessId
    ports: tuple[tuple[int, int], ...]


class Driver(Protocol):
    """Starts virtual machines of one kind. All state it needs is in the machine's files."""

    async def start(self, spec: MachineSpec, files: MachineFiles) -> Running:
        """Start a VM that outlives this process and is known to run.

        Raises Failure with no process left if it cannot.
        """
        ...
