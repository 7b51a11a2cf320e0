"""Where the daemon is looked for, and the service that it is installed as."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from network_daemon import running

from mizzen.control import network
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.network import Edge, Transport
from mizzen.network.daemon import FAMILIES
from mizzen.network.protocol import Status


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.delenv("MIZZEN_NET_SOCKET", raising=False)
    monkeypatch.delenv("MIZZEN_RUNTIME", raising=False)
    return Folders(tmp_path / "state", tmp_path)


def test_a_user_asks_roots_daemon_where_that_is_allowed(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.sock"
    monkeypatch.setattr(network, "SYSTEM_SOCKET", system)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert network.socket_path(folders) == folders.network
    system.touch()
    assert network.socket_path(folders) == system
    monkeypatch.setenv("MIZZEN_RUNTIME", str(tmp_path))
    assert network.socket_path(folders) == folders.network
    monkeypatch.setenv("MIZZEN_NET_SOCKET", "/elsewhere")
    assert network.socket_path(folders) == Path("/elsewhere")


def test_looking_tells_who_answers_or_why_nobody_does(folders: Folders, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(tmp_path):
            found = await network.look(folders)
            assert isinstance(found, Status)
            assert found.mode == "kernel"

    absent = asyncio.run(network.look(folders))
    assert isinstance(absent, Failure)
    assert "nobody answers" in absent.why
    asyncio.run(run())


def test_ports_of_edges_are_read() -> None:
    assert network.edge("a", "b", "53/udp") == Edge("a", "b", Transport.UDP, 53)
    assert network.edge("a", "b", "80") == Edge("a", "b", Transport.TCP, 80)
    for text in ("", "x", "80/sctp", "-1", "80/", "²"):
        with pytest.raises(Failure, match="write PORT or PORT/udp"):
            network.edge("a", "b", text)


def test_installing_writes_what_is_not_there_yet(tmp_path: Path) -> None:
    units = network.installed_units(tmp_path)
    assert [unit.there for unit in units] == [False] * 3
    network.install(units)
    assert all(unit.path.read_text() == unit.text for unit in units)
    assert [unit.there for unit in network.installed_units(tmp_path)] == [True] * 3
    units[1].path.write_text("changed")
    assert [unit.there for unit in network.installed_units(tmp_path)] == [True, False, True]
    service = units[1].text
    families = " ".join(sorted((family.name for family in FAMILIES), reverse=True))
    assert f"\nRestrictAddressFamilies={families}\n" in service
    assert f'ExecStart="{sys.executable}" -m mizzen net daemon\n' in service
    assert "@" not in service.replace("@system-service", "").replace(
        "~@privileged @resources @keyring", ""
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders away")
def test_what_the_service_could_not_enter_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.check_enterable()
    home = tmp_path / "a home"
    python = home / "bin/python"
    python.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(python))
    for owner, group, mode, enters in (
        (1000, 1000, 0o700, False),
        (1000, 1000, 0o711, True),
        (1000, 0, 0o701, False),  # the class that counts is the group
        (1000, 0, 0o710, True),
        (0, 0, 0o700, True),
    ):
        os.chown(home, owner, group)
        home.chmod(mode)
        assert (network.closed_folder(python) is None) is enters
        if enters:
            network.check_enterable()
        else:
            with pytest.raises(Failure, match=re.escape(f"chmod go+x '{home}'")):
                network.check_enterable()
            home.chmod(mode | 0o011)
            network.check_enterable()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_takes_the_units_and_finds_them_safe(tmp_path: Path) -> None:
    network.install(network.installed_units(tmp_path))
    folder = tmp_path / "etc/systemd/system"
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", folder / "mizzen-net.socket"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "mizzen-net" not in verified.stderr
    assert verified.returncode == 0
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager",
         folder / "mizzen-net.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout
