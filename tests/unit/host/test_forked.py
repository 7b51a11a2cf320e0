"""A process that serves this one, and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import mizzen
from mizzen.host import sockets
from mizzen.host.forked import Forked


def tell(connection: socket.socket) -> None:
    """Answer with what this process has open, and its pid, until there is no more to answer."""
    while connection.recv(1):
        listed = [path for path in Path("/proc/self/fd").iterdir() if path.exists()]
        connection.send(f"{os.getpid()} {len(listed)}".encode())


def asked(process: Forked) -> list[int]:
    process.connection.send(b"?")
    asyncio.run(sockets.readable(process.connection))
    return [int(word) for word in process.connection.recv(100).split()]


def test_it_has_the_socket_and_the_standard_descriptors(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w"), contextlib.closing(Forked(tell)) as process:
        pid, count = asked(process)
        assert pid != os.getpid()
        assert count <= 4


def test_signals_that_end_whom_it_serves_do_not_end_it() -> None:
    with contextlib.closing(Forked(tell)) as process:
        pid, _ = asked(process)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        assert asked(process)[0] == pid


def test_when_it_is_closed_its_process_has_ended() -> None:
    process = Forked(tell)
    pid, _ = asked(process)
    process.connection.send(b"?")  # an answer that nobody reads
    process.close()
    assert not Path(f"/proc/{pid}").exists()


def test_a_function_that_fails_is_told_on_stderr() -> None:
    fail = "from mizzen.host.forked import Forked; Forked(lambda _: 1 // 0).close()"
    done = subprocess.run(
        [sys.executable, "-c", fail], check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(mizzen.__file__).parents[1])},
    )  # fmt: skip
    assert "ZeroDivisionError" in done.stderr
