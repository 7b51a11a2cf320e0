"""Which built files may go: pure, and what names them."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mizzen.builders.unused import Built
from mizzen.control import images
from mizzen.control.images import GOOD, KEPT_FOR
from mizzen.model.file import File
from mizzen.model.image import Image, Kernel
from mizzen.model.machine import Machine, MachineSpec, MachineState
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.steps.docker import TakeFile
from mizzen.store import machines, services
from mizzen.store.database import connect

NOW = 1e9
WEB = Service("web", (ServicePort(8080, 80),), Probe(ProbeKind.NONE))


def digest(number: int) -> str:
    return f"{number:064x}"


def built(number: int, age: float) -> Built:
    return Built(Path("/cache/roots", digest(number)), 114 << 20, NOW - age)


def spec(number: int) -> MachineSpec:
    return MachineSpec(f"web-{number}", "x", Path("/k"), Path("/i"), Path(digest(number)), None)


@pytest.fixture
def connection(tmp_path):
    with closing(connect(tmp_path / "db")) as made:
        yield made


def test_what_nobody_needs_goes_once_nobody_has_asked_for_it_in_a_day():
    old, young, needed = built(1, 3 * KEPT_FOR), built(2, KEPT_FOR - 1), built(3, 3 * KEPT_FOR)
    found = images.left_over([old, young, needed], frozenset({needed.digest}), NOW)
    assert found == [(old, "nothing has asked for it in 72 h, 114 MiB")]


def test_what_machines_boot_is_needed_also_once_they_have_ended(connection):
    machines.save(connection, Machine(spec(1), MachineState.STOPPED, 7, 8, 9.0))
    assert digest(1) in images.booted(connection)


def test_what_a_rollback_would_boot_is_needed(connection):
    services.save(connection, WEB)
    for number in range(1, GOOD + 3):
        made = Release("web", 0, ReleaseState.RETIRED, 1.0, source="./web", spec=spec(number))
        good = services.add_release(connection, replace(made, live_since=1.0))
        assert good.number == number
    never = Release("web", 0, ReleaseState.FAILED, 1.0, source="./web", spec=spec(99))
    services.add_release(connection, never)
    roots = {name for name in images.booted(connection) if len(name) == 64}
    assert roots == {digest(number) for number in range(3, GOOD + 3)}


def test_values_and_what_is_wanted_name_files():
    kernel = Kernel(Path("/cache/unikernels", digest(1)), "", None, "x")
    image = Image("x", kernel, None, Path("/cache/roots", digest(2)), None, "y")
    values = [
        File(Path("/cache/files", digest(3)), digest(3), 9),
        TakeFile(image=image, path="/a"),
        "a" * 65,
        None,
    ]
    assert images.named(values) == {digest(1), digest(2), digest(3)}
