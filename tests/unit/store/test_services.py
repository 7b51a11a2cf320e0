from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mizzen.model.machine import Machine, MachineSpec, MachineState
from mizzen.model.service import Release, ReleaseState
from mizzen.store import database, machines, services
from mizzen.store.services import KEEP_RELEASES

SPEC = MachineSpec("web-1", "x", Path("/k"), None, None, None)
MACHINE = Machine(SPEC, MachineState.STOPPED, 7, 8, 9.0)


@pytest.fixture
def connection(tmp_path):
    with closing(database.connect(tmp_path / "db")) as made:
        yield made


def roll_out(connection, times, state=ReleaseState.RETIRED):
    for _ in range(times):
        new = Release("web", 0, ReleaseState.STARTING, 1.0, source="./web")
        services.save_release(
            connection, replace(services.add_release(connection, new), state=state)
        )


def numbers(connection):
    return [one.number for one in services.releases(connection, "web")]


@pytest.mark.parametrize("state", [ReleaseState.RETIRED, ReleaseState.FAILED])
def test_old_releases_are_forgotten_and_numbers_go_on(connection, state):
    roll_out(connection, KEEP_RELEASES + 3, state)
    assert numbers(connection) == list(range(4, KEEP_RELEASES + 4))


@pytest.mark.parametrize("state", [ReleaseState.STARTING, ReleaseState.LIVE, ReleaseState.DRAINING])
def test_a_release_that_is_in_use_stays_however_old(connection, state):
    roll_out(connection, 1, state)
    roll_out(connection, KEEP_RELEASES + 1)
    assert numbers(connection)[:2] == [1, 3]


def test_a_release_stays_while_its_machine_is_there(connection):
    machines.save(connection, MACHINE)
    roll_out(connection, KEEP_RELEASES + 2)
    assert numbers(connection)[:2] == [1, 3]
    machines.remove(connection, "web-1")
    roll_out(connection, 1)
    assert numbers(connection)[0] == 4


def test_a_release_without_a_machine_is_forgotten_too(connection):
    address = Release("web", 0, ReleaseState.RETIRED, 1.0, addresses=("10.0.0.9",))
    for _ in range(KEEP_RELEASES + 1):
        services.add_release(connection, address)
    assert numbers(connection)[0] == 2


def test_another_service_keeps_its_own(connection):
    services.add_release(connection, Release("mail", 0, ReleaseState.RETIRED, 1.0, source="./mail"))
    roll_out(connection, KEEP_RELEASES + 1)
    assert [one.number for one in services.releases(connection, "mail")] == [1]
