from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mizzen.host import sockets


def test_socket_on_a_path_longer_than_an_address(tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "socket"
    with sockets.listen(path), sockets.connect(path) as client:
        client.send(b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConnectionRefusedError):
        sockets.connect(path)
    with sockets.listen(path), sockets.connect(path):
        pass


def test_a_new_listener_takes_the_place_of_the_old_one_at_once(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(sockets.listen_packets(path, 0o640, os.getgid(), 8))
        stack.enter_context(sockets.connect(path, socket.SOCK_SEQPACKET))
        new = stack.enter_context(sockets.listen_packets(path, 0o600, None, 8))
        stack.enter_context(sockets.connect(path, socket.SOCK_SEQPACKET))
        for listener in (old, new):
            listener.settimeout(0)
            listener.accept()[0].close()
    assert [file.name for file in tmp_path.iterdir()] == ["socket"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_connecting_does_not_wait_to_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        stack.enter_context(sockets.listen_packets(path, 0o600, None, 0))
        with pytest.raises(BlockingIOError):
            while True:
                stack.enter_context(sockets.connect(path, socket.SOCK_SEQPACKET))


HANDED = """
import socket, sys
from mizzen.host import sockets
try:
    handed = sockets.inherited(socket.SOCK_SEQPACKET)
    print(handed and handed.getsockname())
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("kind", "environment", "told"),
    [
        (socket.SOCK_SEQPACKET, "LISTEN_FDS=1 LISTEN_PID=$$", "{path}"),
        (socket.SOCK_SEQPACKET, "LISTEN_FDS=1 LISTEN_PID=1", "None"),
        (socket.SOCK_SEQPACKET, "", "None"),
        (socket.SOCK_SEQPACKET, "LISTEN_FDS=2 LISTEN_PID=$$", "2 sockets were handed over"),
        (socket.SOCK_STREAM, "LISTEN_FDS=1 LISTEN_PID=$$", "no listening socket of that kind"),
    ],
)
def test_a_socket_is_taken_from_the_service_manager(
    tmp_path: Path, kind: int, environment: str, told: str
) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(path)
        listener.listen(8)
        number = listener.fileno()
        done = subprocess.run(
            ["bash", "-c", f'{environment} exec "$0" -c "$1" 3<&{number}', sys.executable, HANDED],
            pass_fds=[number], check=True, capture_output=True, text=True,
        )  # fmt: skip
    assert told.format(path=path) in done.stdout


def test_readiness_is_told_to_the_service_manager_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (str(tmp_path / "notify"), f"@mizzen-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(place.replace("@", "\0"))
            manager.settimeout(0)
            monkeypatch.setenv("NOTIFY_SOCKET", place)
            sockets.notify_ready()
            sockets.notify_ready()
            assert manager.recv(100) == b"READY=1"
            with pytest.raises(BlockingIOError):
                manager.recv(100)
