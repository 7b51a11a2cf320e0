"""Machines on user networking behind the daemon that needs no root."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mizzen
from mizzen.control.network import ensure_user
from mizzen.host import cpio, process
from mizzen.host.paths import Folders
from mizzen.model.machine import Machine, Port
from mizzen.model.network import Forward, Publication, Transport
from mizzen.network.client import Network

pytestmark = pytest.mark.machine

LOOPBACK = "127.0.0.1"
REQUESTS = 200
SERVER = """
name=$(cat /proc/sys/kernel/hostname)
echo "$name" >/index.html
httpd -p 80 -h /
/udp_name 53 &
echo serving
while :; do sleep 1; done
"""


@pytest.fixture
def net() -> Iterator[Network]:
    """A daemon without root, whoever runs the tests."""
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        folders = Folders(Path(place) / "state", Path(place) / "run")
        patch.setenv("MIZZEN_STATE", str(folders.state))
        patch.setenv("MIZZEN_RUNTIME", str(folders.runtime))
        patch.setenv("PYTHONPATH", str(Path(mizzen.__file__).parents[1]))
        try:
            yield asyncio.run(ensure_user(folders))
        finally:
            for daemon in process.holders(folders.state / "network-user.log"):
                process.kill(daemon, signal.SIGKILL)
                asyncio.run(process.ended(daemon, 20))


@pytest.fixture
def udp_name(tmp_path: Path) -> cpio.Entry:
    program = tmp_path / "udp_name"
    source = Path(__file__).parents[1] / "support/udp_name.c"
    subprocess.run(["musl-gcc", "-static", "-Os", "-o", program, source], check=True)
    return cpio.file("udp_name", program.read_bytes(), 0o755)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def get(port: int) -> str:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode().strip()


def ask(flow: socket.socket) -> str:
    flow.send(b"who\n")
    return flow.recv(1000).decode().strip()


def published(machine: Machine, tcp: int, udp: int) -> Publication:
    """Lead both ports to where a machine really answers."""
    wanted = {80: tcp, 53: udp}
    return Publication(
        "web",
        tuple(
            Forward(LOOPBACK, wanted[port.guest], port.transport, LOOPBACK, port.host)
            for port in machine.ports
        ),
    )


def test_switch_between_machines_loses_no_request(guests, bookworm, net, udp_name):
    ports = (Port(0, 80), Port(0, 53, Transport.UDP))
    old, new = (
        guests.start(
            bookworm,
            SERVER,
            name=f"{name}-{os.getpid()}",
            publish=ports,
            extra=(udp_name,),
            outward=True,
        )
        for name in ("old", "new")
    )
    for machine in (old, new):
        assert {(port.guest, port.transport) for port in machine.ports} == {
            (80, Transport.TCP),
            (53, Transport.UDP),
        }
        assert all(port.host for port in machine.ports)
        guests.wait_line(machine.spec.name, "serving")
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    before, after = (published(machine, tcp, udp) for machine in (old, new))
    asyncio.run(net.publish([before]))
    answers: list[str] = []
    half = threading.Event()

    def load() -> None:
        for _ in range(REQUESTS):
            answers.append(get(tcp))
            if len(answers) > REQUESTS // 2:
                half.set()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
        flow.connect((LOOPBACK, udp))
        flow.settimeout(30)
        assert ask(flow) == old.spec.name
        loading = threading.Thread(target=load)
        loading.start()
        assert half.wait(120)
        asyncio.run(net.publish([after], {"web": before}))
        assert ask(flow) == new.spec.name
        loading.join()
    assert len(answers) == REQUESTS
    assert set(answers) == {old.spec.name, new.spec.name}
    assert answers == sorted(answers, reverse=True), "none went back to the old one"
    target = next(port.host for port in old.ports if port.guest == 80)

    async def drained() -> list[tuple[int, bool]]:
        return [(one.open, one.done) async for one in net.drain([f"{LOOPBACK}:{target}"], 60)]

    assert asyncio.run(drained())[-1] == (0, True)
