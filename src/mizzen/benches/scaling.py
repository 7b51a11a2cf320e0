"""A daemon that keeps very much: how long it takes to start, and to change one thing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.host.namespaces import NetworkNamespace
from mizzen.model.network import Forward, Publication, Transport
from mizzen.network.addresses import Addresses
from mizzen.store import database
from mizzen.store.network import MIGRATIONS

from .audit import Discord, discord
from .place import Daemon, namespace, open_link

MACHINE = "much"
PREFIX = "10.128.0.0/9"
FIRST_PORT = 1024
BATCH = 250
"""Publications in one request."""


@dataclass(slots=True)
class Scaled:
    """starts: seconds. changes, requests: milliseconds, of a publication and of an address."""

    starts: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    discord: Discord = field(default_factory=Discord)


@dataclass(frozen=True, slots=True)
class Much:
    """How much a daemon keeps, and how often it is started and changed."""

    publications: int
    addresses: int
    starts: int
    changes: int


async def scale(
    daemon: Daemon, host: NetworkNamespace, much: Much, told: Callable[[str], None]
) -> Scaled:
    """Fill a daemon that keeps nothing yet, and measure; it holds all of it afterwards."""
    found = Scaled()
    with namespace() as machine:
        told("filling the daemon")
        link = await open_link(daemon.network, MACHINE, machine)
        target = link.addresses[0]
        wanted = {one.name: one for one in (_one(n, target, 80) for n in range(much.publications))}
        every = list(wanted.values())
        for start in range(0, much.publications, BATCH):
            await daemon.network.publish(every[start : start + BATCH])
        daemon.close()
        leases = _lease(daemon.folder / "network.db", much.addresses)
        leases[f"machine:{MACHINE}"] = target
        told("starting the daemon")
        for _ in range(much.starts):
            daemon.close()
            begun = time.monotonic()
            daemon.start()
            await daemon.network.status()
            found.starts.append(time.monotonic() - begun)
        told("changing one of many")
        for number in range(much.changes):
            one = _one(number * 37 % much.publications, target, 81 + number)
            wanted[one.name] = one
            begun = time.monotonic()
            await daemon.network.publish([one])
            found.changes.append((time.monotonic() - begun) * 1e3)
            begun = time.monotonic()
            lease = await daemon.network.request_address(f"more-{number}", PREFIX)
            found.requests.append((time.monotonic() - begun) * 1e3)
            leases[lease.tag] = lease.address
        found.discord = await discord(daemon.network, host, leases, wanted)
    return found


def _one(number: int, target: str, target_port: int) -> Publication:
    forward = Forward("", FIRST_PORT + number, Transport.TCP, target, target_port)
    return Publication(f"service-{number}", (forward,))


def _lease(path: Path, count: int) -> dict[str, str]:
    """Take addresses in the database of a daemon that does not run; return them by tag."""
    with contextlib.closing(database.connect(path, MIGRATIONS)) as connection:
        addresses = Addresses(connection)
        with database.transaction(connection):
            leases = [addresses.request(f"tag-{number}", PREFIX) for number in range(count)]
    return {lease.tag: lease.address for lease in leases}
