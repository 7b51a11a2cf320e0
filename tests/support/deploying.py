"""What pipelines' machines need, with processes that sleep for machines, and packets in memory."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from memory_plane import MemoryPlane
from publishing import daemon

from mizzen.control import deploy, machines
from mizzen.control.publish import Setting, setting
from mizzen.engine.world import PipelineWorld
from mizzen.host import process
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.machines.files import MachineFiles
from mizzen.machines.protocol import Running
from mizzen.model.deployment import Deployment, Vm
from mizzen.model.errors import Failure
from mizzen.model.image import Image, Kernel, ProcessConfig
from mizzen.model.job import Outcome
from mizzen.model.machine import Accel, Machine, MachineSpec, Port
from mizzen.model.progress import Progress
from mizzen.store import outcomes

PREFIX = "10.70.0.0/24"


@dataclass
class Sleeper:
    """A driver whose machines are processes that sleep.

    fails: none starts. holds: none comes to an end of its start. asked: it has begun with one.
    """

    fails: bool = False
    holds: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(
        self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
    ) -> Running:
        self.asked.set()
        if self.fails:
            raise Failure(f"cannot start machine {spec.name}", "the test says so", "change it")
        if self.holds:
            await asyncio.Event().wait()
        ports = tuple(Port(40000 + p.guest, p.guest, p.transport) for p in spec.publish)
        files.console.write_text("Linux boots\nand sleeps\n")
        with files.vmm.open("ab") as log:
            return Running(process.spawn(["sleep", "1000"], what="cannot sleep", log=log), ports)


@dataclass
class Place:
    """A state folder, a network daemon, and a pipeline that wants some things."""

    at: Setting
    plane: MemoryPlane
    image: Image
    driver: Sleeper = field(default_factory=Sleeper)
    wanted: dict[str, set[str]] = field(default_factory=dict)
    known: list[object] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)

    @property
    def folders(self) -> Folders:
        return self.at.folders

    @property
    def world(self) -> PipelineWorld:
        connection = self.at.means.connection
        wanted = lambda id_: frozenset(self.wanted.get(id_, ()))  # noqa: E731
        return PipelineWorld(connection, "shop", wanted, lambda: self.known)

    def remember(self, operation: str, key: str, value: bytes = b"null") -> None:
        """Write that the pipeline has set a key, and that it wants it so."""
        self.wanted.setdefault(operation, set()).add(key)
        outcomes.succeed(
            self.at.means.connection,
            Outcome(operation, key, "shop", digest="x", value=value, sure=True),
        )

    def deployment(self, version: str = "00000001", service: str = "web") -> Deployment:
        return Deployment(
            service=service,
            version=version,
            image=self.image,
            memory=128,
            vcpus=1,
            accel=Accel.TCG,
            label=service,
            arguments=("--fast",),
            environment=("A=2",),
            outward=None,
            ports=(Port(0, 80),),
        )

    async def deployed(self, name: str) -> Vm:
        """Lease an address for a machine and start it, as a pipeline does, and remember both."""
        service, _, version = name.rpartition("-")
        address = await deploy.lease(self.at, name, PREFIX, [])
        self.remember(deploy.LEASED, deploy.address_key(name, PREFIX))
        wanted = self.deployment(version, service)
        vm = await deploy.deploy(self.at, wanted, [address], self.driver)
        self.remember(deploy.DEPLOYED, name)
        return vm

    def machine(self, name: str) -> Machine:
        with machines.registry(self.folders) as registry:
            return registry.find(name)

    async def kill(self, name: str) -> Machine:
        """End a machine from outside, and return it as it was."""
        machine = self.machine(name)
        process.kill(ProcessId(machine.pid, machine.pid_start), signal.SIGKILL)
        await process.ended(ProcessId(machine.pid, machine.pid_start))
        return machine


def image_in(folder: Path) -> Image:
    """Return an image of which only the first look finds nothing wrong."""
    kernel = folder / "kernel"
    kernel.write_bytes(bytes(0x202) + b"HdrS")
    config = ProcessConfig(("/app",), ("A=1", "B=1"), ports=(80,))
    return Image("web", Kernel(kernel, "", None, "k"), kernel, None, config, "digest")


@contextlib.asynccontextmanager
async def place(folder: Path, mode: str = "kernel") -> AsyncIterator[Place]:
    """Yield a place; all machines in it are ended after the block."""
    folders = Folders(folder / "state", folder / "run")
    folders.runtime.mkdir()
    plane = MemoryPlane(mode)
    told: list[Progress] = []
    async with daemon(folders.runtime, plane), setting(folders, told.append) as at:
        made = Place(at, plane, image_in(folder), told=told)
        try:
            yield made
        finally:
            with machines.registry(folders) as registry:
                for machine in registry.everything():
                    await made.kill(machine.spec.name)


def acting(folder: Path) -> Callable[..., None]:
    """Return what runs a test's coroutine in a place: it takes that, and the network's mode."""

    def run(act: Callable[[Place], Awaitable[None]], mode: str = "kernel") -> None:
        async def main() -> None:
            async with place(folder, mode) as made:
                await act(made)

        asyncio.run(main())

    return run
