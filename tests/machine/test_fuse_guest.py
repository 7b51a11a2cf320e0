"""The FUSE server against the kernels that guests have: 6.1 and 6.12."""

import contextlib
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.host import cpio
from mizzen.model.machine import Port
from mizzen.sessions.fuse.server import Server

PUMP = Path(__file__).parents[1] / "support/fuse_pump.c"
PORT = 7000
CHECK = b"""
export PATH=/bin
b=busybox
echo "files $($b find /mnt | $b wc -l)"
echo "again $($b find /mnt -type f | $b wc -l)"
echo "sum $($b sha256sum /mnt/large)"
echo "link $($b readlink /mnt/link)"
$b ls /mnt/absent
echo "ran $($b chroot /mnt /bin/busybox echo well)"
$b touch /mnt/new
echo "log $($b cat /mnt/log)"
echo "end"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of 1 GiB in 3,000 files, for a guest of 192 MiB."""
    path = tmp_path_factory.mktemp("tools")
    (path / "bin").mkdir()
    shutil.copy("/bin/busybox", path / "bin/busybox")
    (path / "link").symlink_to("/bin/busybox")
    for name in ("large", "second"):
        (path / name).write_bytes(os.urandom(16 << 20))
    (path / "huge").touch()
    os.truncate(path / "huge", 1 << 30)
    for number in range(3000):
        folder = path / f"many/{number % 30}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_text(f"{number}")
    return path


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    program = tmp_path_factory.mktemp("pump") / "pump"
    subprocess.run(["musl-gcc", "-static", "-Os", "-o", program, PUMP], check=True)
    return program.read_bytes()


def serve(peer: socket.socket, folder: Path) -> None:
    descriptor = os.open(folder, os.O_PATH)
    server = Server(descriptor, [cpio.file("log", b"last lines")])
    with peer.makefile("rb") as reader, contextlib.suppress(ConnectionError):
        while head := reader.read(4):
            (size,) = struct.unpack("<I", head)
            if (reply := server.handle(head + reader.read(size - 4))) is not None:
                peer.sendall(reply)
    server.close()
    os.close(descriptor)


@contextlib.contextmanager
def serving(port: int, folder: Path) -> Iterator[None]:
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    thread = threading.Thread(target=serve, args=(peer, folder))
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)
        thread.join()
        peer.close()


def test_large_tools_are_used_from_a_small_guest(guests, kernel, folder, pump):
    machine = guests.start(
        kernel,
        f"/pump {PORT} /mnt sh /check",
        extra=(cpio.file("pump", pump, 0o755), cpio.file("check", CHECK)),
        publish=(Port(0, PORT),),
    )
    name = machine.spec.name
    guests.wait_line(name, "listening")
    with serving(machine.ports[0].host, folder):
        guests.wait_line(name, "end")
        guests.ended(name)
    lines = guests.lines(name)
    files = 1 + sum(len(folders) + len(files) for _, folders, files in os.walk(folder))
    assert f"files {files + 1}" in lines
    assert f"again {3000 + 4 + 1}" in lines
    digest = hashlib.sha256((folder / "large").read_bytes()).hexdigest()
    assert f"sum {digest}  /mnt/large" in lines
    assert "link /bin/busybox" in lines
    assert "ls: /mnt/absent: No such file or directory" in lines
    assert "ran well" in lines
    assert "touch: /mnt/new: Read-only file system" in lines
    assert "log last lines" in lines
