"""What a pipeline deploys: machines of one content each, their addresses, what went live."""

from __future__ import annotations

from dataclasses import dataclass

from .image import Image
from .machine import Accel, Port

VERSION_DIGITS = 8
"""Of a machine's version, which stands behind its service's name and a dash."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a machine, which it gets whenever it is started.

    machine: its name. prefix: where the address is leased from; "" where the machine has QEMU's
    user networking, and this is the guest's own address there, which nobody else reaches.
    """

    machine: str
    address: str
    prefix: str = ""

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True, slots=True)
class Deployment:
    """A machine as a pipeline wants it.

    service: what it is a version of. version: names its content, in hex.
    memory: MiB. vcpus: virtual CPUs. accel: None takes what works here.
    label: of its link (``model.network.Link``).
    arguments: follow those of the image's process; they are all that a unikernel gets.
    environment: "NAME=value", over the image's.
    outward: as ``control.machines.Wish`` has it. ports: for user networking, of the guest.
    """

    service: str
    version: str
    image: Image
    memory: int
    vcpus: int
    accel: Accel | None
    label: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    outward: bool | None
    ports: tuple[Port, ...]

    @property
    def machine(self) -> str:
        """Return the machine's name."""
        return f"{self.service}-{self.version}"


def service_of(machine: str) -> str:
    """Return what a deployed machine is a version of."""
    return machine[: -VERSION_DIGITS - 1]


@dataclass(frozen=True, slots=True)
class Vm:
    """A machine that was deployed.

    machine: its name. service, version: the two parts of that. addresses: as it was given them.
    """

    machine: str
    service: str
    version: str
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return self.machine


@dataclass(frozen=True, slots=True)
class Health:
    """A machine that runs. since: seconds since the epoch."""

    machine: str
    since: float

    def __str__(self) -> str:
        return self.machine


@dataclass(frozen=True, slots=True)
class LiveService:
    """A service whose ports lead to a machine of the pipeline's."""

    service: str
    machine: str


@dataclass(frozen=True, slots=True)
class Live:
    """Services that went live as one. name: what they are together."""

    name: str
    services: tuple[LiveService, ...]

    def __str__(self) -> str:
        return " ".join(one.machine for one in self.services)
