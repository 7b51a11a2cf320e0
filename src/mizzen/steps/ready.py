"""How a new version shows that it is ready: what ``publish.port(ready=...)`` takes."""

from __future__ import annotations

from dataclasses import dataclass

from mizzen.control.services import check_probe, parse_probe
from mizzen.model.duration import seconds
from mizzen.model.service import Probe

INTERVAL = "1s"
TIMEOUT = "5s"
ATTEMPTS = 60


@dataclass(frozen=True, slots=True)
class Ready:
    """A way to show readiness, as it was written. how: as ``mizzen publish add --ready`` has it."""

    how: str
    port: int = 0
    status: int = 200
    contains: str = ""
    interval: str | float = INTERVAL
    timeout: str | float = TIMEOUT
    attempts: int = ATTEMPTS

    def probe(self) -> Probe:
        """Return the probe. Raises Failure, ValueError or TypeError for what makes none."""
        base = Probe(
            port=self.port,
            status=self.status,
            contains=self.contains,
            interval=seconds(self.interval),
            timeout=seconds(self.timeout),
            attempts=self.attempts,
        )
        return check_probe(parse_probe(self.how, base))


def http(
    path: str = "/",
    *,
    port: int = 0,
    status: int = 200,
    contains: str = "",
    interval: str | float = INTERVAL,
    timeout: str | float = TIMEOUT,
    attempts: int = ATTEMPTS,
) -> Ready:
    """It is ready when GET is answered as expected; redirects are not followed.

    path: what is asked for. port: of the machine; 0 is the first TCP port that is published.
    status: that is expected. contains: what the first MiB of the body has to hold; "" anything.
    interval: from one attempt's beginning to the next's. timeout: what an attempt may take.
    attempts: after as many the version has failed.

        publish.port("website", vm, {8080: 80}, ready=http("/healthz", contains="ok"))
    """
    return Ready(f"http:{path}", port, status, contains, interval, timeout, attempts)


def tcp(
    *,
    port: int = 0,
    interval: str | float = INTERVAL,
    timeout: str | float = TIMEOUT,
    attempts: int = ATTEMPTS,
) -> Ready:
    """It is ready when a connection is accepted; fields as of ``http``.

    QEMU's user networking accepts before the machine does, so it is refused there.
    """
    return Ready("tcp", port, interval=interval, timeout=timeout, attempts=attempts)


def command(
    line: str,
    *,
    port: int = 0,
    interval: str | float = INTERVAL,
    timeout: str | float = TIMEOUT,
    attempts: int = ATTEMPTS,
) -> Ready:
    """It is ready when a command on this host exits with 0; other fields as of ``http``.

    line: run by the shell, with MIZZEN_ADDRESS and MIZZEN_PORT in its environment.

        ready=command('dig @"$MIZZEN_ADDRESS" -p "$MIZZEN_PORT" example.org +time=1')
    """
    return Ready(f"command:{line}", port, interval=interval, timeout=timeout, attempts=attempts)


def running() -> Ready:
    """It is ready as soon as it runs."""
    return Ready("none")
