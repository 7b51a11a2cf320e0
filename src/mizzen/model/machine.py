"""A machine: what it should be, and what is known of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from .errors import UsageError
from .image import ProcessConfig
from .network import Link, Transport

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

_PLAIN = re.compile(r'[^ "\\]+')
_SPECIAL = re.compile(r'["\\]')


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


class Port(NamedTuple):
    """A port on 127.0.0.1 that leads to one of a machine's, by QEMU's user networking."""

    host: int
    guest: int
    transport: Transport = Transport.TCP

    def __str__(self) -> str:
        suffix = "" if self.transport is Transport.TCP else f"/{self.transport}"
        return f"{self.host}:{self.guest}{suffix}"


@dataclass(frozen=True, slots=True)
class MachineNetwork:
    """A machine's link to the host, which the network daemon makes.

    prefixes: where its addresses are leased from, one of IPv4, one of IPv6, or both.
    label, outward, addresses, gateways, mac: those of its Link; the last three are empty until
        there is one.
    """

    prefixes: tuple[str, ...]
    label: str = ""
    outward: bool = True
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    mac: str = ""

    def linked(self, link: Link) -> MachineNetwork:
        """Return it with what a link of it turned out to be."""
        return replace(
            self, addresses=link.addresses, gateways=link.gateways, mac=link.mac, label=link.label
        )

    def unlinked(self) -> MachineNetwork:
        """Return it as it was before there was a link."""
        return replace(self, addresses=(), gateways=(), mac="")


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine should be.

    name: a DNS label, unique on this host.
    initramfs, process: None for a unikernel.
    memory: MiB of RAM. vcpus: virtual CPUs.
    command_line: kernel parameters added to the driver's own; of a unikernel its arguments, joined
        by ``joined``.
    publish: ports of user networking; host port 0 takes a free one.
    network: its link; None is QEMU's user networking.
    outward: whether user networking lets it begin conversations, with whatever this user may reach
        and this host's own services; a link says so itself.
    """

    name: str
    reference: str
    kernel: Path
    initramfs: Path | None
    root: Path | None
    process: ProcessConfig | None
    memory: int = 256
    vcpus: int = 1
    accel: Accel = Accel.TCG
    command_line: str = ""
    publish: tuple[Port, ...] = ()
    network: MachineNetwork | None = None
    outward: bool = False

    @property
    def unikernel(self) -> bool:
        """Whether its kernel is all there is: no init, no process, no root."""
        return self.initramfs is None


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as last seen.

    pid, pid_start: the VMM process and its start time in clock ticks since boot, which together
        name one process for ever; while STARTING, the process that starts it.
    created, ended: seconds since the epoch; ended None while it lives.
    status: exit status of the function's process, 128 and the signal's number if one killed it;
        None while it runs or if it is unknown.
    reason: why it ended, in one line; "" while it lives.
    ports: as really published; the hosts' are never 0.
    """

    spec: MachineSpec
    state: MachineState
    pid: int
    pid_start: int
    created: float
    ended: float | None = None
    status: int | None = None
    reason: str = ""
    ports: tuple[Port, ...] = ()


def joined(arguments: Sequence[str]) -> str:
    r"""Return a unikernel's arguments as the one line that it gets.

    One that is empty or holds a space, a quote or a backslash is quoted as MirageOS reads it:
    ``"a \"b\""``. Raises UsageError for what no line can hold.
    """
    for argument in arguments:
        if not argument.isprintable():
            raise UsageError(
                f"cannot pass {argument!r} to a unikernel",
                "it holds a character that is not printable",
                "leave that out",
            )
    return " ".join(map(_quoted, arguments))


def _quoted(argument: str) -> str:
    if _PLAIN.fullmatch(argument):
        return argument
    return '"' + _SPECIAL.sub(r"\\\g<0>", argument) + '"'


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
