"""What every driver does; the registry knows no more of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mizzen.host.process import ProcessId
from mizzen.model.machine import MachineNetwork, MachineSpec, Port

from .files import MachineFiles


@dataclass(frozen=True, slots=True)
class Running:
    """A VMM that a driver started. ports: as really published."""

    process: ProcessId
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Connected:
    """A machine's link, made. interface: its tap's descriptor, which its maker closes."""

    network: MachineNetwork
    interface: int


Connect = Callable[[], AbstractAsyncContextManager[Connected]]
"""Makes a link for a machine that starts in the block, and removes it if the block fails."""


class Driver(Protocol):
    """Starts virtual machines of one kind. All state it needs is in the machine's files."""

    async def start(
        self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
    ) -> Running:
        """Start a VM that outlives this process and is known to run.

        interface: the tap of a spec that has a network; the caller closes its own descriptor.
        Raises Failure with no process left if it cannot.
        """
        ...
