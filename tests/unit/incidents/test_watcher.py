import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mizzen.host.paths import Folders
from mizzen.host.process import start_time
from mizzen.incidents.rules import rules
from mizzen.incidents.watcher import Seen, Watcher
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.incident import IncidentKind
from mizzen.model.machine import Machine, MachineSpec, MachineState
from mizzen.store import followed, incidents, machines
from mizzen.store.database import connect

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/app.py", line 1, in f',
    "ZeroDivisionError: division by zero",
]
OOPS = b"""\
\r\x1b[2J[    1.000000] Linux version 6.1
[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\r
[    2.000001] RIP: 0010:f+0x1/0x2\r
[    2.000002] ---[ end trace 0000000000000000 ]---\r
"""


class House:
    """A state folder with its database, and machines whose VMM is a sleeping process."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder / "state", folder / "run")
        self.connection = connect(self.folders.database)
        self.processes: list[subprocess.Popen[bytes]] = []

    def machine(self, name: str, *, unikernel: bool = False) -> Machine:
        process = subprocess.Popen(["sleep", "300"])
        self.processes.append(process)
        self.folders.machine(name).mkdir(parents=True, exist_ok=True)
        spec = MachineSpec(name, "", Path(), Path(), None, ProcessConfig(("/app",)))
        if unikernel:
            spec = replace(spec, initramfs=None, process=None)
        machine = Machine(
            spec, MachineState.RUNNING, process.pid, start_time(process.pid), time.time()
        )
        machines.save(self.connection, machine)
        return machine

    def write(self, name: str, *lines: str, stream: str = "stderr") -> None:
        with (self.folders.machine(name) / "machine.log").open("a") as file:
            for line in lines:
                file.write(f"2026-01-31T10:00:00.000000001Z {stream} F {line}\n")

    def state(self, source: str) -> bytes:
        return followed.state(self.connection, source) or b""

    def counted(self) -> int:
        return sum(one.count for one in incidents.everything(self.connection))

    def end(self, machine: Machine) -> None:
        os.kill(machine.pid, signal.SIGKILL)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            process.returncode = 0
        self.connection.close()

    @contextlib.asynccontextmanager
    async def watched(self):
        seen: asyncio.Queue[Seen] = asyncio.Queue()
        connection = connect(self.folders.database)
        watcher = Watcher(self.folders, connection, rules(), seen.put_nowait)
        task = asyncio.create_task(watcher.run())
        try:
            yield seen
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            connection.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait until another connection has written what is looked for; pytest's timeout ends it."""
    while not true():  # noqa: ASYNC110 - the database tells nobody
        await asyncio.sleep(0.01)


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()


def test_errors_of_function_and_kernel_are_recorded_and_counted(house):
    async def scenario():
        house.machine("hello")
        house.write("hello", "fine", "ERROR: number 1")
        async with house.watched() as seen:
            first = await seen.get()
            assert (first.new, first.incident.source) == (True, "hello")
            assert first.incident.message == "ERROR: number 1"
            house.write("hello", "ERROR: number 2", "fine")
            again = await seen.get()
            assert (again.new, again.incident.id) == (False, first.incident.id)
            assert again.incident.count == 2
            (house.folders.machine("hello") / "console.log").write_bytes(OOPS)
            oops = (await seen.get()).incident
            assert oops.kind is IncidentKind.KERNEL
            assert len(oops.lines) == 3
            house.machine("later")
            house.write("later", *TRACEBACK)
            later = (await seen.get()).incident
            assert (later.source, later.lines) == ("later", tuple(TRACEBACK))
        assert len(incidents.everything(house.connection)) == 3

    asyncio.run(scenario())


def test_an_event_cut_in_two_by_a_restart_is_one_error(house):
    async def scenario():
        house.machine("hello")
        house.write("hello", "ERROR: x", "fine", *TRACEBACK[:2])
        async with house.watched() as seen:
            await seen.get()
        house.write("hello", TRACEBACK[2])
        async with house.watched() as seen:
            traceback = (await seen.get()).incident
        assert traceback.lines == tuple(TRACEBACK)
        assert [one.count for one in incidents.everything(house.connection)] == [1, 1]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("words", "state", "message"),
    [
        ([], MachineState.FAILED, "the VMM ended without the guest's word"),
        (["exited status=7"], MachineState.FAILED, "the function exited with status 7"),
        (["exited status=0"], MachineState.STOPPED, None),
        ([], MachineState.STOPPED, None),
    ],
)
def test_an_end_is_an_error_unless_somebody_wanted_it(house, words, state, message):
    async def scenario():
        machine = house.machine("hello")
        house.write("hello", "started pid=3", *words, stream="init")
        house.write("hello", "ERROR: last words")
        house.end(machine)
        machines.save(house.connection, replace(machine, state=state, reason="it was so"))
        for _ in range(2):  # the second finds nothing new
            async with house.watched():
                await until(lambda: b'"over":true' in house.state("hello"))
        found = incidents.everything(house.connection)
        assert all(one.count == 1 for one in found)
        messages = {one.message for one in found}
        assert messages == {"ERROR: last words"} | ({message} if message else set())

    asyncio.run(scenario())


def test_a_unikernel_tells_errors_and_its_end_on_its_console(house):
    async def scenario():
        machine = house.machine("hello", unikernel=True)
        console = house.folders.machine("hello") / "console.log"
        console.write_bytes(b"hello answers\r\nERROR: no room\r\nexited status=3\r\n")
        house.end(machine)
        async with house.watched() as seen:
            found = [(await seen.get()).incident for _ in range(2)]
        assert {(one.kind, one.message) for one in found} == {
            (IncidentKind.OUTPUT, "ERROR: no room"),
            (IncidentKind.EXIT, "the function exited with status 3"),
        }
        assert house.counted() == 2

    asyncio.run(scenario())


def test_a_machine_that_is_gone_is_forgotten_but_not_its_errors(house):
    async def scenario():
        house.machine("hello")
        house.write("hello", "ERROR: x")
        async with house.watched() as seen:
            await seen.get()
            machines.remove(house.connection, "hello")
            await until(lambda: not house.state("hello"))
        assert len(incidents.everything(house.connection)) == 1

    asyncio.run(scenario())


def test_a_guest_cannot_fill_the_database(house):
    async def scenario():
        house.machine("hello")
        words = [f"ERROR: {chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in range(600)]
        house.write("hello", *words, "fine")
        async with house.watched():
            await until(lambda: house.counted() == len(words))
        assert len(incidents.everything(house.connection)) == incidents.MOST + 1

    asyncio.run(scenario())


def test_a_second_watcher_is_refused(house):
    async def scenario():
        house.machine("hello")
        house.write("hello", "ERROR: x")
        async with house.watched() as seen:
            await seen.get()
            with pytest.raises(Failure, match="another mizzen watches here"):
                await Watcher(house.folders, house.connection, rules(), print).run()

    asyncio.run(scenario())


WATCH = """
import asyncio, sys
from pathlib import Path
from mizzen.host.paths import Folders
from mizzen.incidents.rules import rules
from mizzen.incidents.watcher import Watcher
from mizzen.store.database import connect
folders = Folders(Path(sys.argv[1]), Path(sys.argv[2]))
asyncio.run(Watcher(folders, connect(folders.database), rules(), lambda seen: None).run())
"""


def test_a_killed_watcher_neither_loses_nor_doubles_an_error(house):
    """Kill it again and again, at any point, while the machine goes on writing."""
    house.machine("hello")
    total, written = 300, 0
    place = [str(house.folders.state), str(house.folders.runtime)]

    watcher = None
    while written < total:
        watcher = subprocess.Popen([sys.executable, "-c", WATCH, *place])
        target = min(written + 60, total)
        while house.counted() < target - 5:  # the last line of each burst may still be open
            if written < target:
                house.write("hello", f"ERROR: number {written}", "fine", *TRACEBACK)
                written += 2
            assert watcher.poll() is None
        watcher.kill()
        watcher.wait()
    house.write("hello", "fine")
    watcher = subprocess.Popen([sys.executable, "-c", WATCH, *place])
    while house.counted() < total:
        assert watcher.poll() is None
        time.sleep(0.01)
    watcher.kill()
    watcher.wait()
    assert sorted(one.count for one in incidents.everything(house.connection)) == [150, 150]
