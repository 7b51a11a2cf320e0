"""A kernel of each Debian release, and machines that clean up after themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mizzen.builders import initramfs
from mizzen.builders.kernel import debian_kernel
from mizzen.host import cpio, process
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.machines import logs
from mizzen.machines.protocol import Connect
from mizzen.machines.qemu.driver import QemuDriver
from mizzen.machines.registry import ENDED, Registry
from mizzen.model.image import Kernel, ProcessConfig
from mizzen.model.log import Stream
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, Port
from mizzen.model.progress import silent
from mizzen.store import database

SUITES = ("bookworm", "trixie")

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="session")
def folders() -> Iterator[Folders]:
    """Folders for machines, on a short path, gone after the run."""
    with tempfile.TemporaryDirectory(prefix="mizzen-test-") as place:
        yield Folders(Path(place) / "state", Path(place) / "runtime")


@pytest.fixture(scope="session")
def kernel_of(cache: Folders) -> Callable[[str], Kernel]:
    """The kernel of a Debian suite."""

    def get(suite: str) -> Kernel:
        return asyncio.run(debian_kernel(cache, silent, suite))

    return get


@pytest.fixture(scope="session", params=SUITES)
def kernel(request: pytest.FixtureRequest, kernel_of: Callable[[str], Kernel]) -> Kernel:
    """Each Debian release's kernel in turn: 6.1 and 6.12."""
    return kernel_of(request.param)


@pytest.fixture(scope="session")
def bookworm(kernel_of: Callable[[str], Kernel]) -> Kernel:
    """The kernel 6.1, for tests that do not depend on the kernel."""
    return kernel_of("bookworm")


@dataclass
class Guests:
    """Starts machines that run a shell script in busybox, and knows what they wrote."""

    folders: Folders
    cache: Folders
    registry: Registry
    started: list[tuple[str, ProcessId]] = field(default_factory=list)

    def start(
        self,
        kernel: Kernel,
        script: str,
        *,
        name: str | None = None,
        extra: tuple[cpio.Entry, ...] = (),
        root: Path | None = None,
        arguments: tuple[str, ...] = ("/bin/sh", "/script"),
        publish: tuple[Port, ...] = (),
        network: MachineNetwork | None = None,
        connect: Connect | None = None,
        outward: bool = False,
        command_line: str = "",
        **config: object,
    ) -> Machine:
        """Start a machine whose function is a script. config: fields of ProcessConfig."""
        name = name or f"test-{len(self.started)}-{os.getpid()}"
        spec = MachineSpec(
            name=name,
            reference="test",
            kernel=kernel.path,
            initramfs=self._initramfs(kernel, name, script, extra),
            root=root,
            process=ProcessConfig(arguments, **config),  # type: ignore[arg-type]
            memory=192,
            publish=publish,
            network=network,
            outward=outward,
            command_line=command_line,
        )
        return self.run(spec, connect)

    def run(self, spec: MachineSpec, connect: Connect | None = None) -> Machine:
        """Start a machine of any kind."""
        machine = asyncio.run(self.registry.start(spec, QemuDriver(), connect))
        self.started.append((spec.name, ProcessId(machine.pid, machine.pid_start)))
        return machine

    def ended(self, name: str, seconds: float = 90) -> Machine:
        """Wait for a machine's end."""
        machine = asyncio.run(self.registry.ended(name, seconds))
        assert machine.state in ENDED, self.console(name)
        return machine

    def lines(self, name: str, *streams: Stream) -> list[str]:
        """Return what a machine has written so far; every stream's lines by default."""

        async def read() -> list[str]:
            found = logs.records(self.registry.files(name).log, lambda: False)
            return [r.text async for r in found if not streams or r.stream in streams]

        return asyncio.run(read())

    def wait_line(
        self, name: str, text: str, seconds: float = 90, *, console: bool = False
    ) -> None:
        """Wait until a machine writes a line that holds the text, to its log or its console."""

        async def lines() -> AsyncIterator[str]:
            files = self.registry.files(name)
            if console:
                async for line in logs.lines(files.console, lambda: self.registry.alive(name)):
                    yield line
                return
            async for record in logs.records(files.log, lambda: self.registry.alive(name)):
                yield record.text

        async def wait() -> None:
            async with asyncio.timeout(seconds):
                async for line in lines():
                    if text in line:
                        return
            raise AssertionError(f"{name} ended without {text!r}: {self.console(name)}")

        asyncio.run(wait())

    def mizzen(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on these machines."""
        return subprocess.run(
            [sys.executable, "-m", "mizzen", *arguments],
            env={
                **os.environ,
                "MIZZEN_STATE": str(self.folders.state),
                "MIZZEN_RUNTIME": str(self.folders.runtime),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def console(self, name: str) -> str:
        """Return what was written to a machine's serial console."""
        return self.registry.files(name).console.read_text(errors="replace")

    def end_all(self) -> None:
        """End every machine, and fail if one leaves a process, a socket or a log behind."""
        for name, vmm in self.started:
            process.kill(vmm, signal.SIGKILL)
            asyncio.run(process.ended(vmm, 10))
            files = self.registry.files(name)
            assert process.holders(files.vmm) == []
            if any(known.spec.name == name for known in self.registry.everything()):
                self.registry.remove(name)
            assert not files.sockets.exists()
            assert not files.logs.exists()

    def _initramfs(
        self, kernel: Kernel, name: str, script: str, extra: tuple[cpio.Entry, ...]
    ) -> Path:
        built = asyncio.run(initramfs.build(self.cache, kernel))
        applets = ("sh", "cat", "id", "kill", "ps", "sleep", "mount", "ip", "head", "tr", "httpd")
        entries = [
            cpio.directory("bin"),
            cpio.file("bin/busybox", BUSYBOX.read_bytes(), 0o755),
            *(cpio.link(f"bin/{applet}", "busybox") for applet in applets),
            cpio.file("script", script.encode(), 0o755),
            *extra,
        ]
        self.folders.state.mkdir(parents=True, exist_ok=True)
        path = self.folders.state / f"{name}.initramfs"
        path.write_bytes(built.read_bytes() + b"".join(cpio.archive(entries)))
        return path


@pytest.fixture(scope="session")
def guests(folders: Folders, cache: Folders) -> Iterator[Guests]:
    """Machines that are shared by a whole session."""
    with closing(database.connect(folders.database)) as connection:
        made = Guests(folders, cache, Registry(folders, connection))
        try:
            yield made
        finally:
            made.end_all()
