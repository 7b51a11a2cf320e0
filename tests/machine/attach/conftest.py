"""A guest that Mizzen did not start, with a serial console to look at it independently."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boots
import pytest
from console import Console
from ending import ending

from mizzen.host import cpio

INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin PS1=
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec setsid sh -c 'exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo; echo ready; while :; do sh -i; done'
"""
WARNINGS = "dmesg -r | grep '^<[0-4]>' | grep -v rcu_tasks_wait_gp"
"""What the kernel complains of; of its grace periods it does when it was paused for long."""


@dataclass
class Guest:
    """A QEMU process with a Linux guest in it."""

    process: subprocess.Popen[bytes]
    console: Console
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"pid:{self.process.pid}"

    def attach(self, *command: str, stdin: bytes = b"", options: tuple[str, ...] = ()):
        """Run ``mizzen attach`` with pipes, to its end."""
        return subprocess.run(
            self.arguments(*command, options=options),
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=200,
            check=False,
        )

    @contextlib.contextmanager
    def session(self, *command: str, options: tuple[str, ...] = (), **streams):
        """Run ``mizzen attach`` for a block, with pipes unless told otherwise."""
        pipe = subprocess.PIPE
        given = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **streams}
        words = self.arguments(*command, options=options)
        with ending(subprocess.Popen(words, env=self.environment, **given)) as running:
            yield running

    def mizzen(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run any command of Mizzen's, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "mizzen", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=200,
            check=False,
        )

    def arguments(self, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        after = ["--", *command] if command else []
        return [sys.executable, "-m", "mizzen", "attach", self.target, *options, *after]

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.console.socket.close()


def initramfs(path: Path) -> None:
    entries = [
        *(cpio.directory(name) for name in ("bin", "proc", "sys", "dev", "tmp", "root")),
        cpio.file("bin/busybox", Path(shutil.which("busybox")).read_bytes(), 0o755),
        cpio.link("bin/sh", "busybox"),
        cpio.file("init", INIT, 0o755),
        cpio.Entry("dev/console", 0o020600, device=(5, 1)),
    ]
    path.write_bytes(b"".join(cpio.archive(entries)))


@contextlib.contextmanager
def booted(
    kernel: Path, folder: Path, *more: str, machine: str = "microvm,rtc=on", memory: str = "256"
) -> Iterator[Guest]:
    """Boot QEMU as a stranger would: private RAM, root, no sandbox, its own command line."""
    folder.mkdir(parents=True, exist_ok=True)  # it may boot again
    initramfs(folder / "initramfs")
    here, there = socket.socketpair()
    parameters = "console=ttyS0 quiet panic=-1 reboot=t tsc=reliable clearcpuid=141"
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    mhz = next(line.split(":")[1] for line in cpuinfo if line.startswith("cpu MHz"))
    arguments = [
        "qemu-system-x86_64",
        *("-M", machine, "-accel", "tcg,tb-size=64", "-cpu", "max", "-m", memory),
        *("-kernel", str(kernel), "-initrd", str(folder / "initramfs")),
        *("-append", f"{parameters} tsc_early_khz={int(float(mhz) * 1000)}"),
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-chardev", f"socket,id=console,fd={there.fileno()}", "-serial", "chardev:console"),
        *more,
    ]
    environment = {
        **os.environ,
        "MIZZEN_STATE": str(folder / "state"),
        "MIZZEN_RUNTIME": str(folder / "run"),
    }
    with (folder / "qemu.log").open("wb") as log:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[there.fileno()]
        )
    there.close()
    guest = Guest(process, Console(here), folder, environment)
    try:
        yield guest
    finally:
        guest.end()


@contextlib.contextmanager
def ready(kernel: Path, folder: Path, *more: str, **shape: str) -> Iterator[Guest]:
    with boots.ready(lambda: booted(kernel, folder, *more, **shape)) as guest:
        guest.console.run("true")
        yield guest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take Linux 6.12, with --matrix also 6.1; other kernels are tried in tests/matrix."""
    if "guest" in metafunc.fixturenames:
        suites = ["bookworm", "trixie"] if metafunc.config.getoption("--matrix") else ["trixie"]
        metafunc.parametrize("guest", suites, indirect=True, scope="package")


@pytest.fixture(scope="package")
def guest(request, kernel_of, tmp_path_factory) -> Iterator[Guest]:
    """A running guest, shared by the tests of this folder."""
    folder = tmp_path_factory.mktemp("guest") / request.param
    with ready(kernel_of(request.param).path, folder) as running:
        before = running.console.run(WARNINGS)
        yield running
        assert running.console.run(WARNINGS) == before


@pytest.fixture
def boot(kernel_of, tmp_path):
    """Boot a guest of a test's own."""
    with contextlib.ExitStack() as stack:

        def start(*more: str, wait: bool = True, **shape: str) -> Guest:
            kernel = kernel_of("bookworm").path
            way = ready if wait else booted
            return stack.enter_context(way(kernel, tmp_path / "guest", *more, **shape))

        yield start
