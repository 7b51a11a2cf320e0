"""A service: published ports, and the releases that have answered behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .machine import MachineSpec
from .network import Transport


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of the host that leads to a port of whichever release is live.

    address: of the host; "" is each that it has.
    """

    port: int
    target_port: int
    transport: Transport = Transport.TCP
    address: str = ""


class ProbeKind(StrEnum):
    """How a new release shows that it is ready."""

    NONE = "none"  # it is when it runs
    TCP = "tcp"  # a port accepts a connection
    HTTP = "http"  # GET is answered as expected
    COMMAND = "command"  # a command on the host exits with 0


@dataclass(frozen=True, slots=True)
class Probe:
    """What is tried until it succeeds.

    port: of the release; 0 is the first of the service's TCP ports.
    path, status, contains: of HTTP: what is asked for, the status expected, and what the body must
        hold ("" anything).
    command: run by the host's shell, with MIZZEN_ADDRESS and MIZZEN_PORT in its environment.
    interval, timeout: seconds between two attempts' beginnings, and that one may take.
    attempts: after as many, the release has failed.
    """

    kind: ProbeKind = ProbeKind.TCP
    port: int = 0
    path: str = "/"
    status: int = 200
    contains: str = ""
    command: str = ""
    interval: float = 1.0
    timeout: float = 5.0
    attempts: int = 60


@dataclass(frozen=True, slots=True)
class Service:
    """What is published, under which name, and when a release of it is ready.

    drain: seconds that connections to the release before may go on after a switch.
    """

    name: str
    ports: tuple[ServicePort, ...]
    probe: Probe = Probe()
    drain: float = 30.0


class ReleaseState(StrEnum):
    """Where a release is in its life."""

    STARTING = "starting"  # started and probed, serves nobody yet
    LIVE = "live"
    DRAINING = "draining"  # serves the connections it has
    RETIRED = "retired"
    FAILED = "failed"  # was never live; kept for debugging


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a service: a machine, or an address that somebody else looks after.

    number: counts the service's releases from 1; 0 until it has been recorded.
    source: the folder or the OCI image that its machine is made of; "" where Mizzen did not start
        it, and then Mizzen does not stop it either.
    machine: its name; "" for a bare address. spec: what starts it again without building; None
        while that is not known. origin: the number of the release that it repeats, 0 of none.
    addresses: where it answers, one of each family at most; empty while that is not known.
    ports: (its port, the one where that really answers, transport) where they differ, as with
        QEMU's user networking, where all are ports of 127.0.0.1.
    created, live_since: seconds since the epoch; live_since None until it was live once.
    reason: why it failed, in one line; "" otherwise.
    """

    service: str
    number: int
    state: ReleaseState
    created: float
    source: str = ""
    machine: str = ""
    spec: MachineSpec | None = None
    origin: int = 0
    addresses: tuple[str, ...] = ()
    ports: tuple[tuple[int, int, Transport], ...] = ()
    live_since: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.service}-{self.number}"

    def port(self, port: int, transport: Transport) -> int:
        """Return where a port of it really answers."""
        return next((at for its, at, kind in self.ports if (its, kind) == (port, transport)), port)


@dataclass(frozen=True, slots=True)
class Underway:
    """A rollout of one service, from its claim to its end.

    number: the new release's. pid, pid_start: the process that does it and its start time in
        clock ticks since boot; 0 of nobody, and the next command brings it to its end.
    since: seconds since the epoch.
    """

    service: str
    number: int
    pid: int
    pid_start: int
    since: float


@dataclass(frozen=True, slots=True)
class Steps:
    """Seconds that each step of a rollout took; 0 of a step that there was not."""

    start: float = 0.0
    probe: float = 0.0
    switch: float = 0.0
    drain: float = 0.0
    retire: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """What a rollout did to one service.

    number, before: of the release that is live now, and of the one that was; 0 of none.
    machine: the new release's. attempts: of the probe.
    in_flight: connections to the old release that were open at the switch; of those, drained
        ended by themselves, dropped were ended with their machine, and left go on, since what
        serves them does. left_running: old releases that Mizzen did not start, or that another
        service leads to.
    """

    service: str
    number: int
    machine: str
    before: int
    attempts: int
    in_flight: int
    drained: int
    dropped: int
    left: int
    left_running: tuple[str, ...]
    steps: Steps


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """What a rollout did. seconds: from its beginning to its end."""

    services: tuple[ServiceReport, ...]
    seconds: float
