"""``mizzen bench attach``: a session beside ssh into the same guest, in the same run.

Everything is measured through the command lines that users have. What is compared is measured
alternately, A B A B, so that a host that gets slower or faster meets both.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen import __version__
from mizzen.builders.kernel import debian_kernel
from mizzen.host.files import explained
from mizzen.host.paths import Folders
from mizzen.host.process import which
from mizzen.machines.qemu import accel
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report
from mizzen.store import database

from . import debian, dropbear, guest, timing, usage, ways
from .figures import Figure, Goal, Host, Result, figure
from .guest import Boot, Guest
from .load import loading
from .ways import Way

MB = 1_000_000
CPU_LOOP = "i=0; while [ $i -lt {count} ]; do i=$((i+1)); done"
DISK_LOOP = "dd if=/dev/vda of=/dev/null bs=4k count={count} iflag=direct status=none"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. attaches, echoes, transfers: how often.

    block: echoes in one session. bulk: seconds that a transfer should take. idle, settle: seconds
    that an idle session is watched, after so many of settling. rounds: how often the guest works
    with a session and without. tries: values taken each time, each the fastest of so many slices.
    slice: seconds of each kind of work.
    small, middle, large: MiB of guests: for all, to see the hypervisor grow, to search.
    """

    attaches: int = 20
    attaches_large: int = 7
    echoes: int = 300
    block: int = 25
    transfers: int = 3
    bulk: float = 2.0
    idle: float = 20.0
    settle: float = 12.0
    rounds: int = 4
    tries: int = 4
    slices: int = 5
    slice: float = 0.2
    small: int = 256
    middle: int = 1024
    large: int = 4096


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. folder: temporary."""

    extent: Extent
    boot: Boot
    folder: Path
    key: Path
    report: Report

    @contextlib.contextmanager
    def booted(self, memory: int) -> Iterator[tuple[Guest, Way, Way]]:
        """Boot a guest; yield it and the ways into it: Mizzen's and ssh."""
        task = f"booting a guest of {memory} MiB"
        self.report(Progress(task))
        with guest.booted(self.boot, memory, self.folder) as running:
            self.report(Progress(task, finished=True))
            yield running, ways.mizzen(running, self.folder), ways.ssh(running, self.key)

    def repeated(self, task: str, count: int, do: Callable[[int], None]) -> None:
        """Do something so many times, and tell."""
        for number in range(count):
            self.report(Progress(task, number, count))
            do(number)
        self.report(Progress(task, count, count, finished=True))


async def prepare(folders: Folders, folder: Path, report: Report, extent: Extent) -> Bench:
    """Fetch what guests boot, the first time, and put it together.

    Raises Failure if this is not root, a program is missing, or Debian's mirror is out of reach.
    """
    what = "cannot run the benchmark"
    if os.geteuid() != 0:
        raise Failure(what, "its guest's network needs root", "run it with sudo")
    for program in ("ip", "nsenter", "ssh", "ssh-keygen", "unshare", "qemu-system-x86_64"):
        which(program)
    kernel = await debian_kernel(folders, report)
    server = await debian.unpacked(folders, report, dropbear.PACKAGE)
    with contextlib.closing(database.connect(folders.database)) as connection:
        chosen = await accel.choose(None, kernel, connection, report)
    key = await ways.key(folder)
    initramfs = folder / "initramfs"
    with explained(what):
        guest.write_initramfs(initramfs, kernel, server, key.with_suffix(".pub").read_text())
    return Bench(extent, Boot(kernel, chosen, initramfs), folder, key, report)


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Yield a temporary folder for a run."""
    with tempfile.TemporaryDirectory(prefix="mizzen-bench-") as place:
        yield Path(place)


def run(bench: Bench) -> Result:
    """Measure everything. Raises Failure if a guest does not boot, or a way does not work."""
    host = Host(
        os.cpu_count() or 1, bench.boot.accel, bench.boot.kernel.release, os.getloadavg()[0]
    )
    figures: list[Figure] = []
    with bench.booted(bench.extent.small) as (running, mizzen, ssh):
        figures += _beginnings(bench, mizzen, ssh)
        figures += _echoes(bench, mizzen, ssh)
        figures += _rates(bench, mizzen, ssh)
        figures += _idle(bench, running, mizzen)
        figures += _work(bench, running, mizzen)
    with bench.booted(bench.extent.middle) as (running, mizzen, _):
        figures += _growth(bench, running, mizzen)
    with bench.booted(bench.extent.large) as (running, mizzen, _):
        figures += _large(bench, running, mizzen)
    return Result("attach", __version__, host, tuple(figures))


def _beginnings(bench: Bench, mizzen: Way, ssh: Way) -> list[Figure]:
    timing.first_output(ssh)  # the server makes its key
    ours: list[float] = []
    theirs: list[float] = []

    def one(_: int) -> None:
        ours.append(timing.first_output(mizzen) * 1e3)
        theirs.append(timing.first_output(ssh) * 1e3)

    bench.repeated("attaching", bench.extent.attaches, one)
    what = f"attach to first output, {bench.extent.small} MiB"
    return [figure(what, "ms", ours, Goal("median", 1000), peer=("ssh", theirs))]


def _large(bench: Bench, running: Guest, mizzen: Way) -> list[Figure]:
    size = bench.extent.large
    _touch(running, size * 2 // 3)
    ours: list[float] = []
    bench.repeated(
        f"attaching to a guest of {size} MiB",
        bench.extent.attaches_large,
        lambda _: ours.append(timing.first_output(mizzen) * 1e3),
    )
    what = f"attach to first output, {size} MiB, two thirds touched"
    return [figure(what, "ms", ours, Goal("median", 2000))]


def _touch(running: Guest, mebibytes: int) -> None:
    """Let the guest use so much of its memory."""
    running.console.run("mkdir /full; mount -t tmpfs -o size=95% full /full")
    running.console.run(f"dd if=/dev/zero of=/full/it bs=1M count={mebibytes} status=none")


def _echoes(bench: Bench, mizzen: Way, ssh: Way) -> list[Figure]:
    typed: dict[str, list[float]] = {mizzen.name: [], ssh.name: []}
    hurried: dict[str, list[float]] = {mizzen.name: [], ssh.name: []}
    chance = random.Random(0)  # the same pauses in every run

    def one(_: int) -> None:
        for way in (mizzen, ssh):
            with timing.typing(way) as (_, type_one):
                for _ in range(5):
                    type_one()
                for _ in range(bench.extent.block):
                    time.sleep(chance.uniform(0.005, 0.080))  # as people type
                    typed[way.name].append(type_one() * 1e3)
                for _ in range(bench.extent.block):
                    hurried[way.name].append(type_one() * 1e3)

    bench.repeated("typing", bench.extent.echoes // bench.extent.block, one)
    goals = (Goal("ratio", 0.5), Goal("p99 ratio", 1))
    return [
        figure("echo round trip", "ms", typed["mizzen"], *goals, peer=("ssh", typed["ssh"])),
        figure(
            "echo round trip, back to back", "ms", hurried["mizzen"], peer=("ssh", hurried["ssh"])
        ),
    ]


def _rates(bench: Bench, mizzen: Way, ssh: Way) -> list[Figure]:
    goals = (Goal("median", 50, least=True), Goal("ratio", 1, least=True))
    found = []
    for what, rate in (
        ("output, guest to host", timing.output_rate),
        ("input, host to guest", timing.input_rate),
    ):
        # Long enough to measure, whatever the way carries.
        sizes = {
            way.name: int(min(max(rate(way, 8 << 20) * MB * bench.extent.bulk, 8 << 20), 64 << 20))
            for way in (mizzen, ssh)
        }
        rates: dict[str, list[float]] = {mizzen.name: [], ssh.name: []}

        def one(
            _: int,
            rate: Callable[[Way, int], float] = rate,
            sizes: dict[str, int] = sizes,
            rates: dict[str, list[float]] = rates,
        ) -> None:
            for way in (mizzen, ssh):
                rates[way.name].append(rate(way, sizes[way.name]))

        bench.repeated(f"carrying {what}", bench.extent.transfers, one)
        found.append(figure(what, "MB/s", rates["mizzen"], *goals, peer=("ssh", rates["ssh"])))
    return found


def _idle(bench: Bench, running: Guest, mizzen: Way) -> list[Figure]:
    seconds = bench.extent.idle
    task = "watching an idle session"
    bench.report(Progress(task, 0, 2))
    began = usage.host_cpu(running.pid)
    usage.settled(seconds)
    without = usage.host_cpu(running.pid) - began
    bench.report(Progress(task, 1, 2))
    with timing.typing(mizzen) as (pid, _):
        usage.settled(bench.extent.settle)
        before = _cpus(running, pid)
        usage.settled(seconds)
        after = _cpus(running, pid)
    bench.report(Progress(task, 2, 2, finished=True))
    host, inside, hypervisor = (100 * (b - a) / seconds for a, b in zip(before, after, strict=True))
    goal = Goal("median", 0.5)
    return [
        figure("idle session's CPU, host process", "%", [host], goal),
        figure("idle session's CPU, guest", "%", [inside], goal),
        figure(
            "idle session's CPU, hypervisor, above none", "%",
            [hypervisor - 100 * without / seconds],
        ),
    ]  # fmt: skip


def _cpus(running: Guest, pid: int) -> tuple[float, float, float]:
    """Return seconds of CPU so far: mizzen attach's, its process's in the guest, QEMU's."""
    return (
        usage.host_cpu(pid),
        usage.session_cpu(running.console),
        usage.host_cpu(running.pid),
    )


def _work(bench: Bench, running: Guest, mizzen: Way) -> list[Figure]:
    with loading(running) as load:
        jobs: dict[str, Callable[[int], float]] = {
            "CPU loop": lambda n: running.console.timed(CPU_LOOP.format(count=n)),
            "disk loop": lambda n: running.console.timed(DISK_LOOP.format(count=n)),
            "HTTP server under load": load,
        }
        counts = {what: _calibrated(job, bench.extent.slice) for what, job in jobs.items()}
        taken: dict[str, tuple[list[float], list[float]]] = {what: ([], []) for what in jobs}

        def measure(*, session: bool) -> None:
            opened = timing.typing(mizzen) if session else contextlib.nullcontext()
            with opened:
                if session:
                    usage.settled(bench.extent.settle)
                for _ in range(bench.extent.tries):
                    for what, job in jobs.items():
                        slices = [job(counts[what]) for _ in range(bench.extent.slices)]
                        taken[what][not session].append(min(slices))

        def one(number: int) -> None:
            measure(session=number % 2 == 0)
            measure(session=number % 2 == 1)

        bench.repeated("working in the guest, with and without a session", bench.extent.rounds, one)
    return [
        figure(
            f"guest's {what}, session idle", "s", values, Goal("ratio", 1.02), peer=("none", others)
        )
        for what, (values, others) in taken.items()
    ]


def _calibrated(job: Callable[[int], float], seconds: float) -> int:
    """Return how much of a job takes so many seconds."""
    count = 100
    while (took := job(count)) < seconds / 4:
        count *= 4
    return max(1, round(count * seconds / min(took, job(count), job(count))))


def _growth(bench: Bench, running: Guest, mizzen: Way) -> list[Figure]:
    """A guest that has booted has touched some; it is made to touch a tenth."""
    size = bench.extent.middle
    resident, _ = usage.hypervisor_memory(running.pid)
    missing = size // 10 - (resident >> 20)
    if missing > 0:
        _touch(running, missing)
    task = "watching the hypervisor grow"
    bench.report(Progress(task, 0, 1))
    before = usage.hypervisor_memory(running.pid)
    with timing.typing(mizzen):
        after = usage.hypervisor_memory(running.pid)
        own = usage.session_memory(running.console)
    bench.report(Progress(task, 1, 1, finished=True))
    grown = after[0] - before[0]
    return [
        figure(
            f"hypervisor's growth over the session's pages, {size} MiB, 10 % touched", "MB",
            [(grown - own) / MB], Goal("median", 5),
        ),
        figure("hypervisor's growth in all", "MB", [grown / MB]),
        figure("session's pages", "MB", [own / MB]),
        figure("growth of TCG's translated code", "MB", [(after[1] - before[1]) / MB]),
    ]  # fmt: skip
