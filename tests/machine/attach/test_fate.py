"""A guest that goes away under a session ends it, and the reason is told."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.machine


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("poweroff -f", "hypervisor"),
        ("reboot -f", "rebooting"),
        ("halt -f", "halted"),
        ("echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger", "panicked"),
        ("kill -TERM -1", "shutting down"),
    ],
)
def test_the_session_ends_and_says_why(boot, command, words):
    guest = boot("-action", "reboot=reset")
    with subprocess.Popen(
        guest.arguments("sh", "-c", "echo begun; exec sleep 1000"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=guest.environment,
    ) as session:
        assert session.stdout.readline() == b"begun\n"
        guest.console.socket.sendall(f"{command}\n".encode())
        assert session.wait(60) == 1
        said = session.stderr.read().decode()
    assert words in said
    assert said.count("\n") == 1
