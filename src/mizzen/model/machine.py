"""A machine: what it should be, and what is known of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .errors import UsageError
from .image import ProcessConfig

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Accel(StrEnum):
    """What executes the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class MachineState(StrEnum):
    """Where a machine is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPED = "stopped"  # ended by its own or the user's will, status 0
    FAILED = "failed"  # ended otherwise


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine should be.

    name: a DNS label, unique on this host.
    memory: MiB of RAM. vcpus: virtual CPUs.
    command_line: kernel parameters added to the driver's own.
    publish: (host port, guest port) pairs on 127.0.0.1; host port 0 takes a free one.
    """

    name: str
    reference: str
    kernel: Path
    initramfs: Path
    root: Path | None
    process: ProcessConfig
    memory: int = 256
    vcpus: int = 1
    accel: Accel = Accel.TCG
    command_line: str = ""
    publish: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as last seen.

    pid, pid_start: the VMM process and its start time in clock ticks since boot, which together
        name one process for ever; while STARTING, the process that starts it.
    created, ended: seconds since the epoch; ended None while it lives.
    status: exit status of the function's process, 128 and the signal's number if one killed it;
        None while it runs or if it is unknown.
    reason: why it ended, in one line; "" while it lives.
    ports: (host port, guest port) as really published.
    """

    spec: MachineSpec
    state: MachineState
    pid: int
    pid_start: int
    created: float
    ended: float | None = None
    status: int | None = None
    reason: str = ""
    ports: tuple[tuple[int, int], ...] = ()


def check_name(name: str) -> str:
    """Return name if it can name a machine.

    Raises UsageError otherwise.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a machine",
            "a name has 1 to 63 of a-z, 0-9 and -, and does not begin or end with -",
            "choose another",
        )
    return name
