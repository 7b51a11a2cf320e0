"""What killed pipelines have left: jobs that were done again, and things that nobody needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.cache import PREFIX
from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId, run
from mizzen.model.job import UNFINISHED, JobFilter, JobRecord, JobState
from mizzen.model.machine import Machine
from mizzen.model.service import ReleaseState
from mizzen.network.client import Network
from mizzen.store import database, jobs, machines, services

from .audit import discord

WATCHES = frozenset({"git head", "machines monitor"})
"""Operations that do not end."""

AGAIN = WATCHES | {"publish collect"}
"""Operations that look at the world anew at each start."""


def repeated(records: Iterable[JobRecord]) -> list[JobRecord]:
    """Return jobs that were begun though one of the same inputs had succeeded: pure."""
    done: set[tuple[str, str, str]] = set()
    found = []
    for job in sorted(records, key=lambda one: one.id):
        what = job.operation, job.key, job.digest
        if what in done and job.started is not None and job.operation not in AGAIN:
            found.append(job)
        if job.state is JobState.OK:
            done.add(what)
    return found


@dataclass(frozen=True, slots=True)
class Messages:
    """What became of messages. twice: came more than once.

    Of those that did not come, cut: whose sending was killed; passed: that were never to be sent,
    as the next commit came before; lost: all others.
    """

    twice: int = 0
    cut: int = 0
    passed: int = 0
    lost: int = 0


def messages(records: Iterable[JobRecord], came: Mapping[str, int]) -> Messages:
    """Judge messages: pure. came: how often each did, by the digest of the job that sends it."""
    states: dict[str, set[JobState]] = {}
    for job in records:
        if job.started is not None:
            states.setdefault(job.digest, set()).add(job.state)
    missing = [states.get(digest, set()) for digest, count in came.items() if not count]
    cut = sum(1 for seen in missing if seen == {JobState.INTERRUPTED})
    passed = sum(1 for seen in missing if not seen)
    twice = sum(1 for count in came.values() if count > 1)
    return Messages(twice, cut, passed, len(missing) - cut - passed)


def unfinished(folders: Folders) -> list[JobRecord]:
    """Return the jobs that are under way by the database, but for those that never end."""
    with contextlib.closing(database.connect_to_read(folders.database)) as connection:
        found = jobs.page(connection, JobFilter(states=UNFINISHED), before=None, limit=-1)
    return [job for job in found if job.operation not in WATCHES]


def all_jobs(folders: Folders) -> list[JobRecord]:
    """Return all jobs that are remembered."""
    with contextlib.closing(database.connect_to_read(folders.database)) as connection:
        return jobs.page(connection, JobFilter(), before=None, limit=-1)


def live_machine(folders: Folders, service: str) -> Machine | None:
    """Return the machine that is live by the database, None before one was."""
    with contextlib.closing(database.connect_to_read(folders.database)) as connection:
        for release in services.releases(connection, service):
            if release.state is ReleaseState.LIVE:
                return machines.find(connection, release.machine)
    return None


def known_machines(folders: Folders) -> list[Machine]:
    """Return all machines that are recorded."""
    with contextlib.closing(database.connect_to_read(folders.database)) as connection:
        return machines.everything(connection)


class Continuity:
    """Whether machines run on: how often one that was live did not, or is another process."""

    def __init__(self) -> None:
        self.broken = 0
        self._processes: dict[str, ProcessId] = {}

    def look(self, live: Machine | None) -> None:
        """Look at the machine that is live."""
        if live is None:
            return
        process = ProcessId(live.pid, live.pid_start)
        before = self._processes.setdefault(live.spec.name, process)
        self.broken += before != process or not process.alive


async def in_network(network: Network, where: NetworkNamespace, live: str) -> list[str]:
    """Return what the daemon and the kernel have beyond one machine, its address and its ports."""
    found = [f"link of {link.machine}" async for link, _ in network.links() if link.machine != live]
    found += [
        f"{lease.address} of {lease.tag}"
        async for lease in network.addresses()
        if lease.tag != f"machine:{live}"
    ]
    published = {one.name: one async for one in network.publications()}
    found += [f"publication {name}" for name in list(published)[1:]]
    leased = {lease.tag: lease.address async for lease in network.addresses()}
    odd = await discord(network, where, leased, published)
    return found + [f"rules and interfaces: {odd}"] * (odd.stale + odd.missing)


def in_storage(folders: Folders, temporary: Path, live: str) -> list[str]:
    """Return what is on disk beyond what one machine needs, and jobs that seem to go on.

    temporary: where programs that were killed keep their temporary files.
    """
    found = [f"job {job.id}" for job in all_jobs(folders) if job.state in UNFINISHED]
    found += [
        f"machine {one.spec.name}" for one in known_machines(folders) if one.spec.name != live
    ]
    places = (folders.machine(live).parent, folders.sockets(live).parent)
    found += [str(path) for place in places for path in place.iterdir() if path.name != live]
    found += [str(path) for path in folders.cache.rglob(f"{PREFIX}*")]
    found += [str(path) for path in (folders.cache / "git/mirrors").glob("*/*.lock")]
    found += [str(path) for path in temporary.iterdir()]
    with contextlib.closing(database.connect_to_read(folders.database)) as connection:
        found += [f"rollout {one.service}" for one in services.underway(connection)]
    return found


async def containers(environment: dict[str, str]) -> list[str]:
    """Return buildah's working containers."""
    words = ("buildah", "containers", "--all", "--format", "{{.ContainerName}}")
    listed = await run(*words, what="cannot list containers", env=environment)
    return [f"container {line}" for line in listed.text.splitlines() if line]


def processes(where: NetworkNamespace, known: Sequence[int]) -> list[str]:
    """Return the processes in a network namespace but for those that are known."""
    inode = os.fstat(where.descriptor).st_ino
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):  # it has ended
            pid = int(path.parts[2])
            if path.stat().st_ino == inode and pid not in known:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"process {pid}: {words[:80].decode(errors='replace')}")
    return found
