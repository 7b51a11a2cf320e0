import asyncio
from pathlib import Path

import pytest

from mizzen.cli.doctor import GUEST_PROGRAMS
from mizzen.control import doctor
from mizzen.control.doctor import GIB, MIB, Finding, Level
from mizzen.host.capabilities import Capability
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.network.protocol import Status

PTRACE = 1 << Capability.SYS_PTRACE


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def examine(tmp_path: Path) -> dict[str, Finding]:
    folders = Folders(tmp_path / "state", tmp_path / "run")
    programs = [tmp_path / name for name in GUEST_PROGRAMS]
    found = asyncio.run(doctor.examine(folders, programs, kvm_runs=None))
    return {finding.item: finding for finding in found}


def test_a_missing_program_is_mended_by_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = examine(tmp_path)
    assert found["qemu"].level is Level.MISSING
    assert found["qemu"].mend.endswith("apt-get install qemu-system-x86")
    assert not doctor.ready(list(found.values()))


def test_versions_are_what_programs_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "qemu-system-x86_64", "echo QEMU emulator version 10.0.3")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert examine(tmp_path)["qemu"].fact == "qemu-system-x86_64 10.0.3"


def test_unusable_buildah_storage_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = """
        test "$1" = info || exec echo buildah version 1.28.2
        echo 'level=error msg="no space"' >&2
        exit 125
    """
    program(tmp_path, "buildah", broken)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = examine(tmp_path)["buildah"]
    assert found.level is Level.MISSING
    assert found.fact == "its storage cannot be used: no space"


def test_looking_writes_nothing(tmp_path: Path) -> None:
    found = examine(tmp_path)
    assert found["state"].level is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_state_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert examine(tmp_path)["state"].level is Level.MISSING


def test_a_broken_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "mizzen.db").write_bytes(b"no database at all" * 100)
    assert examine(tmp_path)["database"].level is Level.MISSING


def test_without_kvm_machines_still_run(tmp_path: Path) -> None:
    assert doctor.kvm(tmp_path / "kvm", runs=None).level is Level.WARNING


@pytest.mark.parametrize(
    ("runs", "level"), [(True, Level.OK), (None, Level.OK), (False, Level.WARNING)]
)
def test_a_kvm_that_opens_is_judged_by_what_ran_on_it(
    tmp_path: Path, runs: bool | None, level: Level
) -> None:
    (tmp_path / "kvm").touch()
    assert doctor.kvm(tmp_path / "kvm", runs=runs).level is level


def test_guest_programs_that_are_not_built_are_named(tmp_path: Path) -> None:
    (tmp_path / "init").touch()
    found = doctor.guest([tmp_path / "init", tmp_path / "stage2"])
    assert (found.level, found.fact) == (Level.MISSING, "not built: stage2")


@pytest.mark.parametrize(
    ("free", "level", "fact"),
    [
        (3 * GIB + GIB // 2, Level.OK, "3.5 GiB free for /x"),
        (700 * MIB, Level.MISSING, "700 MiB free for /x, at least 2048 MiB are needed"),
        (0, Level.MISSING, "0 MiB free for /x, at least 2048 MiB are needed"),
    ],
)
def test_disk_is_judged(free: int, level: Level, fact: str) -> None:
    found = doctor.disk(Path("/x"), free)
    assert (found.level, found.fact) == (level, fact)


def test_memory_is_what_the_kernel_calls_available() -> None:
    meminfo = "MemTotal:  8000000 kB\nMemAvailable:    4194304 kB\n"
    assert doctor.memory(meminfo).fact == "4.0 GiB available"
    assert doctor.memory("").level is Level.MISSING


@pytest.mark.parametrize(
    ("capabilities", "scope", "level"),
    [
        (PTRACE, 0, Level.OK),
        (PTRACE, 2, Level.OK),
        (PTRACE, 3, Level.WARNING),
        (0, 0, Level.OK),
        (0, 1, Level.WARNING),
    ],
)
def test_who_may_attach(capabilities: int, scope: int, level: Level) -> None:
    assert doctor.attach(capabilities, scope).level is level


def test_capabilities_are_read_from_status() -> None:
    assert doctor.capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n") == 0x1FFFFFFFFFF
    assert doctor.capabilities("") == 0


def test_static_programs_are_told_from_dynamic_ones(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    assert not doctor.static(text)
    assert not doctor.static(Path("/bin/sh"))
    assert doctor.static(Path("/bin/busybox"))


def test_a_program_that_cannot_start_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qemu-system-x86_64").write_bytes(b"\x7fELF, and no more of it")
    (tmp_path / "qemu-system-x86_64").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = examine(tmp_path)["qemu"]
    assert found.level is Level.MISSING
    assert "does not run: " in found.fact


def test_it_says_which_network_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "net.sock"
    absent = Failure("cannot reach the network daemon", f"nobody answers at {path}", "start it")
    for root, level in ((False, Level.OK), (True, Level.WARNING)):
        none = doctor.network_finding(absent, path, root=root)
        assert none.level is level
        assert "no daemon runs" in none.fact
        assert "sudo mizzen net daemon" in none.mend
    path.touch()
    silent = doctor.network_finding(absent, path, root=False)
    assert (silent.level, silent.mend) == (Level.WARNING, "start it")
    for mode, said in (("kernel", "in the kernel"), ("user", "without root")):
        found = doctor.network_finding(Status(mode, "1", 0, 0, 0, 0), path, root=True)
        assert found.level is Level.OK
        assert said in found.fact
        assert str(path) in found.fact
    setting = "user.max_user_namespaces=10000"
    status = Status("kernel", "1", 0, 0, 0, 0)
    without = doctor.network_finding(status, path, root=True, forbidding=setting)
    assert without.level is Level.WARNING
    assert without.fact.endswith("no cells, since user.max_user_namespaces is 0")
    assert f"sudo sysctl {setting}" in without.mend


def test_the_network_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIZZEN_NET_SOCKET", str(tmp_path / "net.sock"))
    assert "no daemon runs" in examine(tmp_path)["network"].fact
    assert list(tmp_path.iterdir()) == []
