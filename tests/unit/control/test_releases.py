import contextlib
import dataclasses
import subprocess
from pathlib import Path

import pytest

from mizzen.control import incidents as control_incidents
from mizzen.control.publish import last_good
from mizzen.control.releases import MachineStarter, Mode, check_image, resolve
from mizzen.host.paths import Folders
from mizzen.host.process import start_time
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.incident import IncidentKind
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState, Port
from mizzen.model.network import Transport
from mizzen.model.progress import silent
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.network.client import Network
from mizzen.store import machines as store
from mizzen.store.database import connect

KERNEL = Mode(kernel=True, prefixes=("10.70.0.0/24",))
USER = Mode(kernel=False, prefixes=())
WEB = Service("web", (ServicePort(8080, 80),), Probe(ProbeKind.HTTP))
ADDRESSES = ("10.70.0.2", "fd70::2")


def spec(name: str, *, linked: bool) -> MachineSpec:
    wired = MachineNetwork(("10.70.0.0/24",), addresses=ADDRESSES) if linked else None
    return MachineSpec(name, "", Path(), Path(), None, ProcessConfig(("/app",)), network=wired)


@pytest.fixture
def folders(tmp_path):
    """State with a machine with a link, one with user networking, and one that has ended."""
    folders = Folders(tmp_path / "state", tmp_path / "run")
    with subprocess.Popen(["sleep", "300"]) as process:
        born = start_time(process.pid)
        ports = (Port(41000, 80), Port(41001, 53, Transport.UDP))
        running = [
            Machine(spec("linked", linked=True), MachineState.RUNNING, process.pid, born, 0.0),
            Machine(
                spec("plain", linked=False),
                MachineState.RUNNING,
                process.pid,
                born,
                0.0,
                ports=ports,
            ),
            Machine(
                spec("ended", linked=True), MachineState.FAILED, 1, 1, 0.0, 1.0, reason="it burnt"
            ),
        ]
        with contextlib.closing(connect(folders.database)) as connection:
            for machine in running:
                store.save(connection, machine)
                folders.machine(machine.spec.name).mkdir(parents=True)
        yield folders
        process.kill()


def test_an_address_is_a_release_that_mizzen_does_not_start(folders):
    found = resolve(folders, KERNEL, WEB, "FD70:0::9")
    assert (found.addresses, found.source, found.machine) == (("fd70::9",), "", "")


def test_a_machine_with_a_link_answers_at_its_addresses(folders):
    found = resolve(folders, KERNEL, WEB, "linked")
    assert (found.machine, found.addresses, found.ports) == ("linked", ADDRESSES, ())
    assert found.source == ""


def test_a_machine_with_user_networking_answers_at_ports_of_loopback(folders):
    found = resolve(folders, USER, WEB, "plain")
    assert found.addresses == ("127.0.0.1",)
    assert found.port(80, Transport.TCP) == 41000
    assert found.port(53, Transport.UDP) == 41001


@pytest.mark.parametrize(
    ("mode", "target", "why"),
    [
        (KERNEL, "plain", "it has QEMU's user networking"),
        (USER, "linked", "it has a link of the network daemon's"),
        (KERNEL, "ended", "it has ended: it burnt"),
    ],
)
def test_a_machine_that_cannot_be_reached_is_refused(folders, mode, target, why):
    with pytest.raises(Failure, match=why):
        resolve(folders, mode, WEB, target)


def test_a_machine_without_a_port_of_the_service_is_refused(folders):
    dns = Service("dns", (ServicePort(53, 53),), Probe(ProbeKind.NONE))
    with pytest.raises(Failure, match="it has no port 53/tcp; start it with --publish 53/tcp"):
        resolve(folders, USER, dns, "plain")


@pytest.mark.parametrize("target", ["plain", "docker.io/library/nginx"])
def test_a_tcp_probe_is_refused_where_qemu_accepts_for_the_machine(folders, target):
    probed = dataclasses.replace(WEB, probe=Probe(ProbeKind.TCP))
    with pytest.raises(Failure, match="accepts TCP connections before the machine does"):
        resolve(folders, USER, probed, target)


def test_a_machine_is_not_let_out_for_the_sake_of_a_udp_port(folders):
    dns = Service("dns", (ServicePort(53, 53, Transport.UDP),), Probe(ProbeKind.NONE))
    with pytest.raises(Failure, match=r"give --outward"):
        resolve(folders, USER, dns, "docker.io/library/dns")
    outward = dataclasses.replace(dns, outward=True)
    assert resolve(folders, USER, outward, "docker.io/library/dns").source
    assert resolve(folders, KERNEL, dns, "docker.io/library/dns").source
    assert resolve(folders, USER, dns, "plain").machine == "plain"


def test_a_folder_is_a_source_from_wherever_it_is_named(folders, tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(folders, KERNEL, WEB, "app").source == str(tmp_path / "app")
    assert resolve(folders, KERNEL, WEB, "docker.io/library/nginx:1").source.endswith("nginx:1")


def release(number, *, good=True, origin=0):
    since = 1.0 if good else None
    return Release("web", number, ReleaseState.RETIRED, 0.0, origin=origin, live_since=since)


def test_rolling_back_goes_to_what_was_live_before():
    known = [release(1), release(2, good=False), release(3)]
    assert last_good("web", known, known[2]).number == 1


def test_rolling_back_again_goes_back_further():
    known = [release(1), release(2), release(3), release(4, origin=2)]
    assert last_good("web", known, known[3]).number == 1


def test_rolling_back_goes_to_the_newest_good_one_where_nothing_is_live():
    known = [release(1), release(2), release(3, good=False)]
    assert last_good("web", known, None).number == 2


@pytest.mark.parametrize("known", [[release(1)], [release(1), release(2, origin=1)]])
def test_rolling_back_is_refused_where_nothing_was_live_before(known):
    with pytest.raises(Failure, match=r"no release was live before web-\d; see: mizzen publish"):
        last_good("web", known, known[-1])
    with pytest.raises(Failure, match="no release was live at all"):
        last_good("web", [], None)


def test_a_release_whose_image_is_gone_is_not_started_again(tmp_path):
    files = [tmp_path / name for name in ("kernel", "initramfs", "root")]
    for file in files:
        file.touch()
    kernel, initramfs, root = files
    whole = MachineSpec("web-1", "", kernel, initramfs, root, ProcessConfig(("/app",)))
    known = dataclasses.replace(release(1), source="/src/web", spec=whole)
    check_image(known)
    root.unlink()
    with pytest.raises(Failure, match=r"root is gone; .*mizzen publish switch web=/src/web"):
        check_image(known)


def starter(folders: Folders) -> MachineStarter:
    return MachineStarter(folders, Network(folders.network), KERNEL, silent)


def test_a_release_that_failed_is_an_incident_with_its_machines_last_words(folders):
    (folders.machine("linked") / "console.log").write_text(
        "".join(f"console {number}\x1b\n" for number in range(30))
    )
    (folders.machine("linked") / "machine.log").write_text(
        "".join(f"2026-01-31T10:00:00Z stderr F said {number}\n" for number in range(30))
    )
    failed = dataclasses.replace(release(1), machine="linked", reason="linked is not ready: why")
    told = starter(folders).keep(failed)
    assert told == "see: mizzen incidents show 1, or enter it: mizzen incidents enter 1"
    seen = control_incidents.incident(folders, 1)
    assert (seen.kind, seen.source) == (IncidentKind.ROLLOUT, "linked")
    assert seen.message == "linked is not ready: why"
    assert seen.lines == (
        "linked is not ready: why",
        *(f"console {number}?" for number in range(10, 30)),
        *(f"said {number}" for number in range(10, 30)),
    )
    assert control_incidents.target(folders, seen) == "linked"


def test_what_has_ended_is_told_to_be_looked_at_only(folders):
    failed = dataclasses.replace(release(1), machine="ended", reason="it has ended")
    assert starter(folders).keep(failed) == "see: mizzen incidents show 1"


def test_what_never_was_a_machine_leaves_no_incident(folders):
    failed = dataclasses.replace(release(1), machine="", reason="no")
    assert starter(folders).keep(failed) == ""
    assert control_incidents.all_incidents(folders) == []
