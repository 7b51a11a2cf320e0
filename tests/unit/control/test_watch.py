import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mizzen.control.incidents import target
from mizzen.control.settings import Settings
from mizzen.control.watch import watch
from mizzen.host.paths import Folders
from mizzen.host.process import start_time
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.incident import Incident, IncidentKind
from mizzen.model.machine import Machine, MachineSpec, MachineState
from mizzen.store import incidents, machines
from mizzen.store.database import connect


class Enough(Exception):  # noqa: N818 - it is no error
    """Ends a watch from inside a callback, as Ctrl-C would from outside."""


@pytest.fixture
def folders(tmp_path):
    """State with one machine, "hello", whose VMM is a sleeping process."""
    folders = Folders(tmp_path / "state", tmp_path / "run")
    folders.machine("hello").mkdir(parents=True)
    with subprocess.Popen(["sleep", "300"]) as process:
        spec = MachineSpec("hello", "", Path(), Path(), None, ProcessConfig(("/app",)))
        born = start_time(process.pid)
        with contextlib.closing(connect(folders.database)) as connection:
            machines.save(connection, Machine(spec, MachineState.RUNNING, process.pid, born, 0.0))
        yield folders
        process.kill()


def write(folders: Folders, *lines: str) -> None:
    with (folders.machine("hello") / "machine.log").open("a") as file:
        file.writelines(f"2026-01-31T10:00:00Z stderr F {line}\n" for line in lines)


def recorded(folders: Folders) -> list[Incident]:
    with contextlib.closing(connect(folders.database)) as connection:
        return incidents.everything(connection)


def test_a_new_error_opens_one_shell_and_those_meanwhile_are_told_afterwards(folders):
    told: list[tuple[str, bool]] = []
    entered: list[str] = []

    def enter(where: str) -> int:
        entered.append(where)
        write(folders, "ERROR: number 2", "ERROR: of another sort", "fine")
        while sum(one.count for one in recorded(folders)) < 3:
            pass
        return 0

    def on_seen(seen):
        told.append((seen.incident.message, seen.new))
        if len(told) == 3:
            raise Enough

    write(folders, "ERROR: number 1")
    with pytest.raises(Enough):
        watch(folders, Settings(), unit=None, on_seen=on_seen, on_failure=print, enter=enter)
    assert entered == ["hello"]
    assert told[0] == ("ERROR: number 1", True)
    assert sorted(told[1:]) == [("ERROR: number 1", False), ("ERROR: of another sort", True)]


def test_a_guest_that_cannot_be_entered_does_not_end_the_watch(folders):
    failures: list[str] = []

    def refuse(where: str) -> int:
        raise Failure("cannot enter", where)

    def on_failure(failure: Failure) -> None:
        failures.append(str(failure))
        if len(failures) == 2:
            raise Enough
        write(folders, "ERROR: of another sort", "fine")

    write(folders, "ERROR: one", "fine")
    with pytest.raises(Enough):
        watch(
            folders,
            Settings(),
            unit=None,
            on_seen=lambda _: None,
            on_failure=on_failure,
            enter=refuse,
        )
    assert failures == ["cannot enter: hello"] * 2


def test_what_the_watcher_fails_of_is_told(folders):
    (folders.machine("hello") / "machine.log").mkdir()
    with pytest.raises(Failure, match=r"cannot follow machine\.log"):
        watch(folders, Settings(), unit=None, on_seen=print, on_failure=print)


def incident(source: str) -> Incident:
    return Incident(1, source, IncidentKind.OUTPUT, "m", (), "f", 0, 0, 1)


def test_the_target_of_an_incident_is_where_it_happened(folders):
    assert target(folders, incident("hello")) == "hello"
    with pytest.raises(Failure, match="gone"):
        target(folders, incident("other"))
    with pytest.raises(Failure, match="named no VM"):
        target(folders, incident("unit x.service"))
    with pytest.raises(Failure, match="no process was started with the id 77x"):
        target(folders, incident("vm 77x"))
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", "--id=77x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert target(folders, incident("vm 77x")) == f"pid:{process.pid}"


def test_the_command_line_tells_lists_and_shows(folders):
    env = os.environ | {
        "MIZZEN_STATE": str(folders.state),
        "MIZZEN_RUNTIME": str(folders.runtime),
        "PYTHONPATH": "src",
    }
    mizzen = [sys.executable, "-m", "mizzen"]

    def run(*arguments: str) -> str:
        return subprocess.run(
            [*mizzen, *arguments], env=env, check=True, capture_output=True, text=True
        ).stdout

    write(folders, "[bold]fine", "ERROR: in [red]brackets[/red] \x1b[31m", "more")
    with subprocess.Popen(
        [*mizzen, "watch"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "hello  ERROR: in [red]brackets[/red]  mizzen incidents enter 1" in line
        process.terminate()
        assert process.wait() == 130
    assert "[red]brackets[/red]" in run("incidents", "list")
    assert "ERROR: in [red]brackets[/red]" in run("incidents", "show", "1")
    assert '"source": "hello"' in run("incidents", "show", "1", "--json")
    refused = subprocess.run(
        [*mizzen, "watch", "--do", "attach"], env=env, capture_output=True, check=False, text=True
    )
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
