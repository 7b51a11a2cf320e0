"""The network daemon without root: started when it is needed, found again, killed, started anew."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.control import network
from mizzen.host import process
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Publication, Transport

LOOPBACK = "127.0.0.1"


def daemons(folders: Folders) -> list[ProcessId]:
    return process.holders(folders.state / "network-user.log")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folders]:
    made = Folders(tmp_path / "state", tmp_path / "run")
    monkeypatch.setenv("MIZZEN_STATE", str(made.state))
    monkeypatch.setenv("MIZZEN_RUNTIME", str(made.runtime))
    monkeypatch.setenv("PYTHONPATH", str(Path(network.__file__).parents[2]))
    yield made
    for daemon in daemons(made):
        end(daemon)


def end(daemon: ProcessId) -> None:
    process.kill(daemon, signal.SIGKILL)
    assert asyncio.run(process.ended(daemon, 20))


@contextlib.contextmanager
def target() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind((LOOPBACK, 0))
        made.listen()
        made.settimeout(20)
        yield made


def reaches(port: int, listening: socket.socket) -> bool:
    """Tell whether a connection to a port comes out at a target."""
    with socket.create_connection((LOOPBACK, port), timeout=20) as client:
        client.sendall(b"hello")
        with listening.accept()[0] as answering:
            answering.settimeout(20)
            return answering.recv(100) == b"hello"


def test_daemon_is_started_once_and_its_ports_come_back_after_a_kill(folders):
    async def both() -> None:
        await asyncio.gather(network.ensure_user(folders), network.ensure_user(folders))

    asyncio.run(both())
    (daemon,) = daemons(folders)
    net = network.client(folders)
    assert asyncio.run(net.status()).mode == "user"
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port = free.getsockname()[1]
    with target() as first, target() as second:

        def web(to: socket.socket) -> Publication:
            number = to.getsockname()[1]
            return Publication("web", (Forward(LOOPBACK, port, Transport.TCP, LOOPBACK, number),))

        asyncio.run(net.publish([web(first)]))
        assert reaches(port, first)
        asyncio.run(net.publish([web(second)], {"web": web(first)}))
        assert reaches(port, second)
        end(daemon)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port))
        asyncio.run(network.ensure_user(folders))
        assert daemons(folders) != [daemon]
        assert reaches(port, second)


def test_daemon_that_cannot_start_says_why(folders):
    folders.state.mkdir()
    (folders.state / "network-user.db").write_bytes(b"no database " * 1000)
    with pytest.raises(Failure, match=r"cannot start the network daemon: .*not a database.*; see"):
        asyncio.run(network.ensure_user(folders))
    assert daemons(folders) == []


def test_addresses_are_refused_without_root(folders):
    net = asyncio.run(network.ensure_user(folders))
    with pytest.raises(Failure, match="runs without root"):
        asyncio.run(net.request_address("mine", "10.70.0.0/24"))
