"""Examine this host: what it can do for Mizzen, what it lacks, and the command that mends it.

Nothing is installed, started or written; every check is a look of some milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import platform
import re
import shutil
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mizzen.host import namespaces, process
from mizzen.host.capabilities import Capability
from mizzen.host.paths import Folders
from mizzen.machines.qemu import accel
from mizzen.model.errors import Failure
from mizzen.network.protocol import Status
from mizzen.store import database

from . import network

MIB = 1 << 20
GIB = 1 << 30

MEMORY_NEEDED = 768 * MIB
"""Available memory for one small machine, QEMU itself and a build beside it."""

DISK_NEEDED = 2 * GIB
"""Free space for base images, the kernel and what is built of them."""

KERNEL_NETWORK = "for machines with addresses: sudo mizzen net install, or sudo mizzen net daemon"


class Level(enum.StrEnum):
    """How a finding bears on running the demo here."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about this host.

    item: what was looked at. fact: what was seen. mend: the command or the step that puts it
    right; empty where nothing needs to be, or nothing can.
    """

    item: str
    level: Level
    fact: str
    mend: str = ""


def ready(findings: Sequence[Finding]) -> bool:
    """Whether the demo can run: nothing essential is missing."""
    return all(finding.level is not Level.MISSING for finding in findings)


async def examine(
    folders: Folders, guest_programs: Sequence[Path], *, kvm_runs: bool | None
) -> list[Finding]:
    """Look at everything, programs at the same time, and return findings in reading order.

    guest_programs: the programs for guests that the package must hold.
    kvm_runs: whether guests ran under KVM when it was tried; None if it has not been.
    """
    programs = asyncio.gather(*_programs())
    return [
        _architecture(),
        kvm(Path("/dev/kvm"), runs=kvm_runs),
        *await programs,
        _tools(),
        guest(guest_programs),
        memory(_read("/proc/meminfo")),
        *_folders(folders),
        disk(folders.state, _free(_existing(folders.state))),
        _database(folders.database),
        _attach(),
        await _namespaces(),
        network_finding(
            await network.look(folders),
            network.socket_path(folders),
            root=os.geteuid() == 0,
            forbidding=namespaces.forbidding(),
        ),
    ]


def _architecture() -> Finding:
    machine, release = platform.machine(), platform.release()
    if machine != "x86_64":
        return Finding("host", Level.MISSING, f"{machine}, Linux {release}", "use an x86-64 host")
    return Finding("host", Level.OK, f"x86-64, Linux {release}")


def kvm_remembered(folders: Folders) -> bool | None:
    """Return whether guests ran under KVM when a machine was started; None if none was."""
    if not folders.database.exists():
        return None
    try:
        with contextlib.closing(database.connect(folders.database)) as connection:
            return accel.remembered(connection)
    except Failure:
        return None  # the database has a finding of its own


def kvm(device: Path, *, runs: bool | None) -> Finding:
    """Judge whether the KVM device is there, may be opened, and has been seen to run guests."""
    if not device.exists():
        return Finding(
            "kvm",
            Level.WARNING,
            f"no {device}; machines run under TCG, several times slower",
            "enable virtualisation in the firmware, or nested virtualisation of this VM",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding(
            "kvm",
            Level.WARNING,
            f"{device} may not be opened; machines run under TCG, several times slower",
            "sudo usermod -aG kvm $USER, then log in again",
        )
    if runs is None:
        fact = f"{device} opens; whether guests run on it is tried when the first one starts"
        return Finding("kvm", Level.OK, fact)
    if not runs:
        fact = (
            f"{device} opens, but no guest runs on it; machines run under TCG, several times slower"
        )
        return Finding("kvm", Level.WARNING, fact, "use a host whose KVM runs unmodified kernels")
    return Finding("kvm", Level.OK, f"{device} runs guests")


def _programs() -> Iterator[Awaitable[Finding]]:
    yield _version("qemu", "qemu-system-x86_64", "--version")
    yield _buildah()
    yield _version("erofs", "mkfs.erofs", "--help")
    yield _version("mmdebstrap", "mmdebstrap", "--version")
    yield _version("dpkg-deb", "dpkg-deb", "--version")
    yield _version("apt-get", "apt-get", "--version")


async def _version(item: str, program: str, *arguments: str) -> Finding:
    """Find a program and what version it says it is."""
    try:
        path = process.which(program)
    except Failure as failure:
        return Finding(item, Level.MISSING, failure.why, _install(program))
    try:
        done = await process.run(program, *arguments, what=f"cannot run {program}")
    except Failure as failure:
        fact = f"{path} does not run: {failure.why}"
        return Finding(item, Level.MISSING, fact, f"{_install(program)} --reinstall")
    number = version(done.text)
    return Finding(item, Level.OK, f"{program} {number}" if number else path)


def version(output: str) -> str:
    """Return the version number in the first line a program says of itself; empty without one."""
    found = re.search(r"\d+(?:\.\d+)+", output.partition("\n")[0])
    return found[0] if found else ""


async def _buildah() -> Finding:
    """Find buildah, and whether its storage can be used by this user."""
    finding, storage = await asyncio.gather(
        _version("buildah", "buildah", "--version"), _buildah_storage()
    )
    if finding.level is not Level.OK:
        return finding
    if isinstance(storage, str):
        return replace(finding, fact=f"{finding.fact}, {storage}")
    fact = f"its storage cannot be used: {message(storage.why)}"
    mend = "run it with sudo" if os.geteuid() else "see: buildah info"
    return Finding(finding.item, Level.MISSING, fact, mend)


def message(line: str) -> str:
    """Return what a line of logrus says: ``level=error msg="no space"`` says no space."""
    found = re.search(r'\bmsg="((?:[^"\\]|\\.)*)"', line)
    return found[1].replace('\\"', '"') if found else line


async def _buildah_storage() -> str | Failure:
    form = "storage {{.store.GraphDriverName}} in {{.store.GraphRoot}}"
    try:
        done = await process.run("buildah", "info", "--format", form, what="cannot use buildah")
    except Failure as failure:
        return failure
    return done.text


def _tools() -> Finding:
    """Look for the static busybox that is a debug shell's default tools."""
    item, path = "busybox", shutil.which("busybox")
    if path is None:
        return Finding(item, Level.MISSING, "not installed", _install("busybox"))
    if not static(Path(path)):
        fact = f"{path} needs shared libraries, which a guest may not have"
        return Finding(item, Level.MISSING, fact, _install("busybox"))
    return Finding(item, Level.OK, f"{path}, static")


def static(path: Path) -> bool:
    """Whether a file is a 64-bit ELF program that asks for no dynamic loader (PT_INTERP)."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:5] != b"\x7fELF\x02":
            return False
        offset = int.from_bytes(header[32:40], "little")
        size, count = (int.from_bytes(header[at : at + 2], "little") for at in (54, 56))
        file.seek(offset)
        segments = file.read(size * count)
    kinds = (int.from_bytes(segments[at : at + 4], "little") for at in range(0, size * count, size))
    return 3 not in kinds


def guest(programs: Sequence[Path]) -> Finding:
    """Judge whether the programs for guests have been built."""
    absent = [path.name for path in programs if not path.is_file()]
    if absent:
        fact = f"not built: {', '.join(absent)}"
        return Finding("guest programs", Level.MISSING, fact, "make -C guest")
    return Finding("guest programs", Level.OK, ", ".join(path.name for path in programs))


def memory(meminfo: str) -> Finding:
    """Judge the memory that is available, as /proc/meminfo tells it."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return _room("memory", int(found[1]) * 1024 if found else 0, MEMORY_NEEDED, "available")


def disk(folder: Path, free: int) -> Finding:
    """Judge the disk that the state folder is on."""
    mend = "free some disk space, or set MIZZEN_STATE to a folder on another disk"
    return _room("disk", free, DISK_NEEDED, f"free for {folder}", mend)


def _room(item: str, free: int, needed: int, where: str, mend: str = "") -> Finding:
    amount = f"{free / GIB:.1f} GiB" if free >= GIB else f"{free // MIB} MiB"
    if free >= needed:
        return Finding(item, Level.OK, f"{amount} {where}")
    fact = f"{amount} {where}, at least {needed // MIB} MiB are needed"
    return Finding(item, Level.MISSING, fact, mend or "stop something that uses it")


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _folders(folders: Folders) -> Iterator[Finding]:
    for item, folder, variable in (
        ("state", folders.state, "MIZZEN_STATE"),
        ("runtime", folders.runtime, "MIZZEN_RUNTIME"),
    ):
        nearest = _existing(folder)
        if not nearest.is_dir():
            fact = f"{nearest} is no folder"
        elif not os.access(nearest, os.W_OK | os.X_OK):
            fact = f"{nearest} may not be written"
        else:
            made = "" if nearest == folder else ", made when needed"
            yield Finding(item, Level.OK, f"{folder}{made}")
            continue
        yield Finding(item, Level.MISSING, fact, f"set {variable} to a folder of your own")


def _database(path: Path) -> Finding:
    if not path.exists():
        return Finding("database", Level.OK, "none yet, made when needed")
    try:
        database.connect(path).close()
    except Failure as failure:
        return Finding("database", Level.MISSING, failure.why, failure.fix)
    return Finding("database", Level.OK, str(path))


def _attach() -> Finding:
    """Judge whether memory of other processes may be written: what attaching by pid takes."""
    scope = _read("/proc/sys/kernel/yama/ptrace_scope")  # absent where Yama is
    return attach(capabilities(_read("/proc/self/status")), int(scope or 0))


def capabilities(status: str) -> int:
    """Return the effective capabilities in /proc/PID/status as a bit mask."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def attach(effective: int, scope: int) -> Finding:
    """Judge capabilities and Yama's ptrace_scope (Documentation/admin-guide/LSM/Yama.rst).

    Mizzen's own machines keep their RAM in a file of this user and need neither.
    """
    item = "attach"
    if scope >= 3:
        fact = f"only to Mizzen's own machines: ptrace_scope is {scope} until the next boot"
        return Finding(item, Level.WARNING, fact, "remove kernel.yama.ptrace_scope from sysctl.d")
    if effective >> Capability.SYS_PTRACE & 1:
        return Finding(item, Level.OK, "to any hypervisor: CAP_SYS_PTRACE is here")
    if scope == 0:
        return Finding(item, Level.OK, "to hypervisors of this user: ptrace_scope is 0")
    fact = f"only to Mizzen's own machines: no CAP_SYS_PTRACE, and ptrace_scope is {scope}"
    return Finding(item, Level.WARNING, fact, "run it with sudo")


def network_finding(
    found: Status | Failure, path: Path, *, root: bool, forbidding: str = ""
) -> Finding:
    """Say which carries published ports here: the kernel, or a relay on QEMU's user networking.

    found: who answers at path, the network daemon's socket, or why nobody does. root: whether this
    user is root, for whom no relay is started. forbidding: see ``namespaces.forbidding``.
    """
    item = "network"
    if isinstance(found, Status):
        if found.mode == "kernel":
            fact = f"in the kernel: a daemon answers at {path}"
            if not forbidding:
                return Finding(item, Level.OK, fact)
            fact += f"; no cells, since {forbidding.partition('=')[0]} is 0"
            fix = f"run: sudo sysctl {forbidding} and restart the daemon"
            return Finding(item, Level.WARNING, fact, fix)
        fact = f"QEMU's user networking: a daemon without root answers at {path}"
        return Finding(item, Level.OK, fact, KERNEL_NETWORK)
    alone = "QEMU's user networking alone"
    if path.exists():  # there is one, or was
        return Finding(item, Level.WARNING, f"{alone}: {found.why}", found.fix or KERNEL_NETWORK)
    if root:
        fact = f"{alone}: no daemon runs, which services need"
        return Finding(item, Level.WARNING, fact, KERNEL_NETWORK)
    fact = "QEMU's user networking: no daemon runs, one without root is started when needed"
    return Finding(item, Level.OK, fact, KERNEL_NETWORK)


async def _namespaces() -> Finding:
    """Try what buildah would do to isolate a RUN line."""
    kinds = ["--mount", "--pid", "--ipc", "--uts", "--fork"]
    if os.geteuid():
        kinds = ["--user", "--map-root-user", *kinds]
    item = "namespaces"
    try:
        await process.run("unshare", *kinds, "true", what="cannot make namespaces")
    except Failure as failure:
        fact = f"{failure.why}; images are built with --isolation chroot"
        return Finding(item, Level.WARNING, fact, _more_namespaces())
    return Finding(item, Level.OK, " ".join(kind.lstrip("-") for kind in kinds[:-1]))


def _more_namespaces() -> str:
    """Return what lifts a limit on namespaces, if a known one is set."""
    if _read("/proc/sys/user/max_user_namespaces").strip() == "0":
        return "sudo sysctl user.max_user_namespaces=10000"
    if _read("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0" and os.geteuid():
        return "sudo sysctl kernel.unprivileged_userns_clone=1"  # Debian's own
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _install(program: str) -> str:
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install {process.PACKAGES[program]}"
