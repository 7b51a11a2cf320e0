from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from mizzen.host import process
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.machines.files import MachineFiles
from mizzen.machines.protocol import Connected, Running
from mizzen.machines.registry import Registry
from mizzen.model.errors import Failure, UsageError
from mizzen.model.image import ProcessConfig
from mizzen.model.machine import MachineNetwork, MachineSpec, MachineState, Port
from mizzen.model.network import Transport
from mizzen.store import database


class Sleeper:
    """A driver whose machine is a process that sleeps."""

    async def start(
        self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
    ) -> Running:
        with files.vmm.open("ab") as log:
            return Running(process.spawn(["sleep", "1000"], what="cannot sleep", log=log), ())


class Dying(Sleeper):
    """A driver whose command is killed just after it spawned the machine."""

    async def start(
        self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
    ) -> Running:
        await super().start(spec, files, interface)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Refusing:
    """A driver that cannot."""

    async def start(
        self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
    ) -> Running:
        raise Failure("cannot start", "it does not want to")


def make_spec(folder: Path, name: str = "web", memory: int = 128) -> MachineSpec:
    kernel = folder / "vmlinuz"
    kernel.write_bytes(bytes(0x202) + b"HdrS")
    return MachineSpec(name, "x", kernel, kernel, None, ProcessConfig(("/x",)), memory=memory)


@pytest.fixture
def spec(tmp_path) -> MachineSpec:
    return make_spec(tmp_path)


@pytest.fixture
def registry(tmp_path):
    folders = Folders(tmp_path / "state", tmp_path / "run")
    with closing(database.connect(folders.database)) as connection:
        made = Registry(folders, connection)
        yield made
        for machine in made.everything():
            if machine.pid != os.getpid():
                process.kill(ProcessId(machine.pid, machine.pid_start), signal.SIGKILL)
                process.reap(machine.pid)


def test_machine_is_found_again_and_its_end_is_noticed(registry, spec):
    started = asyncio.run(registry.start(spec, Sleeper()))
    assert registry.find("web") == started
    assert started.state is MachineState.RUNNING
    assert registry.alive("web")
    process.kill(ProcessId(started.pid, started.pid_start), signal.SIGKILL)
    ended = asyncio.run(registry.ended("web", 10))
    assert ended.state is MachineState.FAILED
    assert ended.reason
    assert registry.find("web") == ended, "it ends once"
    assert not registry.files("web").sockets.exists()
    registry.remove("web")
    assert registry.everything() == []
    assert not registry.files("web").logs.exists()


def test_name_is_taken_until_its_machine_is_removed(registry, spec):
    started = asyncio.run(registry.start(spec, Sleeper()))
    with pytest.raises(Failure, match=r"one of that name runs; .*machines stop web"):
        asyncio.run(registry.start(spec, Sleeper()))
    with pytest.raises(Failure, match="it runs; stop it first"):
        registry.remove("web")
    process.kill(ProcessId(started.pid, started.pid_start), signal.SIGKILL)
    asyncio.run(registry.ended("web", 10))
    with pytest.raises(Failure, match=r"has ended; .*machines remove web"):
        asyncio.run(registry.start(spec, Sleeper()))


def test_unikernel_is_ended_without_being_asked(registry, spec):
    spec.kernel.write_bytes(b"\x7fELF" + bytes(0x300))
    bare = replace(spec, initramfs=None, process=None, memory=8)
    asyncio.run(registry.start(bare, Sleeper()))
    stopped = asyncio.run(registry.stop("web", 1000))
    assert (stopped.state, stopped.reason) == (MachineState.STOPPED, "stopped, as a unikernel is")
    assert registry.find("web") == stopped


def test_unikernel_must_be_an_elf_file(registry, spec):
    with pytest.raises(Failure, match="no unikernel; name an ELF file"):
        asyncio.run(registry.start(replace(spec, initramfs=None, process=None), Sleeper()))


def test_failed_start_leaves_nothing(registry, spec):
    with pytest.raises(Failure, match="does not want to"):
        asyncio.run(registry.start(spec, Refusing()))
    assert registry.everything() == []
    assert not registry.files("web").logs.exists()


WIRED = MachineNetwork(("10.70.0.0/24",))
LINKED = replace(WIRED, addresses=("10.70.0.2",), gateways=("10.70.0.1",), mac="02:00:00:00:00:02")


class Link:
    """A link that is a pipe, and what became of it."""

    def __init__(self) -> None:
        self.state = "none"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connected]:
        reading, writing = os.pipe()
        self.state = "up"
        try:
            yield Connected(LINKED, writing)
        except BaseException:
            self.state = "removed"
            raise
        finally:
            os.close(reading)
            os.close(writing)


def test_link_is_recorded_before_the_machine_is_spawned(registry, spec):
    link, seen = Link(), []

    class Looking(Sleeper):
        async def start(
            self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
        ) -> Running:
            assert interface is not None
            os.fstat(interface)
            seen.append(registry.find("web").spec.network)
            return await super().start(spec, files, interface)

    started = asyncio.run(registry.start(replace(spec, network=WIRED), Looking(), link.connect))
    assert seen == [LINKED]
    assert started.spec.network == LINKED
    assert link.state == "up"


def test_machine_that_does_not_start_leaves_no_link(registry, spec):
    link = Link()
    with pytest.raises(Failure, match="does not want to"):
        asyncio.run(registry.start(replace(spec, network=WIRED), Refusing(), link.connect))
    assert link.state == "removed"
    assert registry.everything() == []


def test_link_of_a_machine_that_runs_is_not_taken_from_it(registry, spec):
    asyncio.run(registry.start(spec, Sleeper()))
    link = Link()
    with pytest.raises(Failure, match="one of that name runs"):
        asyncio.run(registry.start(replace(spec, network=WIRED), Sleeper(), link.connect))
    assert link.state == "none"


def test_machine_of_a_killed_start_is_ended_and_told(registry, spec, tmp_path):
    script = (
        "import asyncio, sys, importlib.util\n"
        "spec = importlib.util.spec_from_file_location('these', sys.argv[1])\n"
        "these = importlib.util.module_from_spec(spec); sys.modules['these'] = these\n"
        "spec.loader.exec_module(these)\n"
        "from pathlib import Path\n"
        "place = Path(sys.argv[2])\n"
        "folders = these.Folders(place / 'state', place / 'run')\n"
        "registry = these.Registry(folders, these.database.connect(folders.database))\n"
        "asyncio.run(registry.start(these.make_spec(place), these.Dying()))\n"
    )
    command = [sys.executable, "-c", script, __file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (orphan,) = process.holders(registry.files("web").vmm)
    machine = registry.find("web")
    assert machine.state is MachineState.FAILED
    assert machine.reason == "the command that started it was killed"
    assert asyncio.run(process.ended(orphan, 10))


def test_machine_that_is_being_started_is_left_alone(registry, spec):
    class Looking(Sleeper):
        async def start(
            self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
        ) -> Running:
            assert registry.find("web").state is MachineState.STARTING
            with pytest.raises(Failure, match="it is being started"):
                await registry.stop("web", 1)
            return await super().start(spec, files, interface)

    asyncio.run(registry.start(spec, Looking()))


def test_stop_ends_a_machine_that_does_not_answer(registry, spec):
    started = asyncio.run(registry.start(spec, Sleeper()))
    stopped = asyncio.run(registry.stop("web", 0))
    assert (stopped.state, stopped.reason) == (MachineState.STOPPED, "stopped by force")
    assert not ProcessId(started.pid, started.pid_start).alive
    with pytest.raises(Failure, match="it has ended: stopped by force"):
        asyncio.run(registry.stop("web", 0))


def test_unknown_name_says_where_to_look(registry):
    with pytest.raises(Failure, match="there is none; see: mizzen machines list"):
        registry.find("nix")


@pytest.mark.parametrize(
    ("name", "memory", "error", "why"),
    [
        ("Web", 128, UsageError, "cannot name a machine"),
        ("web", 8, UsageError, "too few"),
        ("web", 1 << 30, Failure, "are free"),
    ],
)
def test_machine_that_cannot_run_is_refused(registry, tmp_path, name, memory, error, why):
    with pytest.raises(error, match=why):
        asyncio.run(registry.start(make_spec(tmp_path, name, memory), Sleeper()))
    assert registry.everything() == []


def test_udp_port_of_a_machine_that_is_shut_off_is_refused(registry, spec):
    wanted = replace(spec, publish=(Port(0, 53, Transport.UDP),))
    with pytest.raises(UsageError, match=r"answers no UDP .*--outward"):
        asyncio.run(registry.start(wanted, Sleeper()))
    asyncio.run(registry.start(replace(wanted, outward=True), Sleeper()))


def test_an_image_without_a_command_is_refused(registry, spec):
    with pytest.raises(Failure, match="its image names no command to run; give its Dockerfile"):
        asyncio.run(registry.start(replace(spec, process=ProcessConfig(())), Sleeper()))
    assert registry.everything() == []


def test_kernel_that_is_none_is_refused(registry, spec):
    spec.kernel.write_bytes(b"MZ" * 600)
    with pytest.raises(Failure, match="is no Linux kernel"):
        asyncio.run(registry.start(spec, Sleeper()))
