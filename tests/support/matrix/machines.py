"""A guest of the matrix in a QEMU that knows nothing of Mizzen."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import boots
from console import Console

from mizzen.host import cpio
from mizzen.host.tsc import measure_khz

from .cases import UEFI, Case
from .states import State

PANIC_SECONDS = 240
ATTACH_SECONDS = 200
OLD_QEMU = 8
"""Below this major version, TCG spoils the flags behind cmpxchg16b; see docs/attach.md."""

SHELL = "stty -echo 2>/dev/null; echo ready; exec sh -i"
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin PS1=
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec setsid sh -c 'exec </dev/ttyS0 >/dev/ttyS0 2>&1; {SHELL}'
""".encode()
WARNINGS = "dmesg -r | grep '^<[0-4]>' | grep -v rcu_tasks_wait_gp"
"""What the kernel complains of; of its grace periods it does when it was paused for long."""

FAULTS = f"{WARNINGS} | grep -v lockup | grep -E 'BUG|Oops|WARNING|general protection'"
"""What it never may complain of, however busy it is or long it was paused."""


@dataclass(frozen=True, slots=True)
class Root:
    """A disk to boot into. modules: what the initramfs loads to reach it, in order."""

    disk: Path
    modules: tuple[tuple[str, bytes], ...]

    def init(self) -> bytes:
        """Return an initramfs's program that hands over to the disk's own init."""
        load = "\n".join(f"insmod /modules/{name}.ko" for name, _ in self.modules)
        return f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
{load}
mount -t erofs -o ro /dev/vda /lower
mount -t tmpfs upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /root
mount --move /dev /root/dev
exec switch_root /root /sbin/init
""".encode()


@dataclass(frozen=True, slots=True)
class Files:
    """What a guest is booted from. firmware: None for QEMU's own BIOS."""

    kernel: Path
    firmware: Path | None = None
    root: Root | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """How ``mizzen attach`` ended. seconds: until its command said something, or it ended."""

    status: int
    stdout: str
    stderr: str
    seconds: float


@dataclass
class Guest:
    """A running guest."""

    process: subprocess.Popen[bytes]
    console: Console
    folder: Path

    def bring(self, state: State, vcpus: int, complaints: str) -> str:
        """Bring it into a state; return what its kernel has complained of so far."""
        prepared = self.console.run(f"{state.prepare.format(vcpus=vcpus)} echo prepared")
        assert prepared.endswith("prepared"), prepared
        if state.dead:
            self.console.wait_for(state.dead, PANIC_SECONDS)
            return ""
        time.sleep(state.settle)  # to be idle is the state itself
        said = self.console.run(complaints)
        if state.paused:
            self.process.send_signal(signal.SIGSTOP)
        return said

    def attach(self, *command: str, inside: str = "") -> Attached:
        """Run a command in it with ``mizzen attach``.

        inside: a process of the guest whose namespaces to join.
        """
        options = ("--guest-pid", inside) if inside else ()
        target = f"pid:{self.process.pid}"
        environment = {
            **os.environ,
            "MIZZEN_STATE": str(self.folder / "state"),
            "MIZZEN_RUNTIME": str(self.folder / "run"),
        }
        began = time.monotonic()
        with (
            tempfile.TemporaryFile() as complaints,
            subprocess.Popen(
                [sys.executable, "-m", "mizzen", "attach", target, *options, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment,
            ) as running,
        ):
            assert running.stdout is not None
            killer = threading.Timer(ATTACH_SECONDS, running.kill)
            killer.start()
            first = running.stdout.readline()
            seconds = time.monotonic() - began
            rest = running.stdout.read()
            status = running.wait()
            killer.cancel()
            killer.join()
            complaints.seek(0)
            stderr = complaints.read().decode(errors="replace")
        return Attached(status, (first + rest).decode(errors="replace"), stderr, seconds)


def initramfs(path: Path, root: Root | None) -> None:
    """Write an initramfs with busybox; device nodes are there for kernels without devtmpfs."""
    nodes = (("console", 5, 1), ("ttyS0", 4, 64), ("null", 1, 3), ("zero", 1, 5), ("vda", 254, 0))
    folders = ("bin", "proc", "sys", "dev", "tmp", "root", "lower", "upper", "modules")
    entries = [
        *map(cpio.directory, folders),
        cpio.file("bin/busybox", Path(shutil.which("busybox") or "").read_bytes(), 0o755),
        cpio.link("bin/sh", "busybox"),
        cpio.file("init", root.init() if root else INIT, 0o755),
        *(
            cpio.Entry(f"dev/{name}", stat.S_IFCHR | 0o600, device=(major, minor))
            for name, major, minor in nodes
        ),
        *(
            cpio.file(f"modules/{name}.ko", content)
            for name, content in (root.modules if root else ())
        ),
    ]
    path.write_bytes(b"".join(cpio.archive(entries)))


def parameters(case: Case, qemu: int, tsc_khz: int) -> str:
    """Return a guest's kernel parameters."""
    words = ["console=ttyS0 quiet panic=-1 reboot=t tsc=reliable", f"tsc_early_khz={tsc_khz}"]
    if qemu < OLD_QEMU:
        words.append("clearcpuid=141")
    return " ".join(filter(None, (*words, case.parameters)))


def memory(case: Case, folder: Path) -> tuple[str, ...]:
    """Return QEMU's options for RAM that is held in the case's way."""
    machine = {"microvm": "microvm,rtc=on", UEFI: "q35"}.get(case.machine, case.machine)
    size = f"{case.memory}M"
    if case.backing == "anonymous":
        return ("-M", machine, "-m", size)
    if case.backing == "two memfds":
        half = f"size={case.memory // 2}M,share=on"
        nodes = (
            ("-object", f"memory-backend-memfd,id={name},{half}", "-numa", f"node,memdev={name}")
            for name in ("lower", "upper")
        )
        return ("-M", machine, "-m", size, *chain.from_iterable(nodes))
    backend = {
        "shared file": "memory-backend-file,mem-path=/dev/shm",
        "memfd": "memory-backend-memfd",
        "disk file": f"memory-backend-file,mem-path={folder}/ram",
    }[case.backing]
    backend += f",id=ram,size={size},share=on"
    return ("-M", f"{machine},memory-backend=ram", "-m", size, "-object", backend)


def arguments(case: Case, files: Files, folder: Path) -> list[str]:
    """Return the command line of a case's QEMU, but for its console."""
    device = "virtio-blk-device" if case.machine == "microvm" else "virtio-blk-pci"
    disk: tuple[str, ...] = ()
    if files.root:
        drive = "driver=raw,node-name=root,read-only=on,file.driver=file,file.filename="
        disk = ("-blockdev", f"{drive}{files.root.disk}", "-device", f"{device},drive=root")
    return [
        "qemu-system-x86_64",
        *memory(case, folder),
        *("-accel", "tcg,tb-size=64", "-cpu", case.processor, "-smp", str(case.vcpus)),
        *("-kernel", str(files.kernel), "-initrd", str(folder / "initramfs")),
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *(("-bios", str(files.firmware)) if files.firmware else ()),
        *disk,
    ]


def qemu_version() -> str:
    """Return QEMU's version, such as 7.2.22."""
    shown = subprocess.run(
        ["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"version (\d+[\d.]*)", shown)
    assert found is not None, shown
    return found[1]


@contextlib.contextmanager
def booted(case: Case, files: Files) -> Iterator[Guest]:
    """Boot a case's guest up to the shell on its console."""
    with boots.ready(lambda: _started(case, files)) as guest:
        guest.console.run("true")
        yield guest


@contextlib.contextmanager
def _started(case: Case, files: Files) -> Iterator[Guest]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        initramfs(folder / "initramfs", files.root)
        here, there = map(stack.enter_context, socket.socketpair())
        append = parameters(case, int(qemu_version().split(".")[0]), measure_khz())
        channel = f"socket,id=console,fd={there.fileno()}"
        process = subprocess.Popen(
            [
                *arguments(case, files, folder),
                *("-append", append, "-chardev", channel, "-serial", "chardev:console"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
        )
        there.close()
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Guest(process, Console(here), folder)
