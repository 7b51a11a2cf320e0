"""A guest that goes away under a session ends it, and the reason is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.machine


SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("poweroff -f", "hypervisor"),
        ("reboot -f", "reboot"),
        ("halt -f", "halted"),
        ("echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger", "panicked"),
        ("kill -TERM -1", "shutting down"),
    ],
)
def test_the_session_ends_and_says_why(boot, command, words):
    guest = boot("-action", "reboot=reset")
    assert words in ended_by(guest, command)


def test_a_kexec_ends_the_session_and_the_next_one_enters_the_new_kernel(boot, kernel_of, tmp_path):
    guest = boot("-m", "512")
    program = tmp_path / "kexec"
    subprocess.run(["musl-gcc", "-static", "-o", program, SUPPORT / "kexec.c"], check=True)
    files = {
        "kexec": program,
        "kernel": kernel_of("bookworm").path,
        "initramfs": guest.folder / "initramfs",
    }
    options = [part for name, path in files.items() for part in ("--put", str(path), f"/{name}")]
    assert guest.attach(options=tuple(options)).returncode == 0
    said = ended_by(guest, '/kexec /kernel /initramfs "$(cat /proc/cmdline)"')
    assert "reboot" in said  # is rebooting, or has rebooted: whichever is seen first
    guest.console.wait_for("ready", 120)
    done = guest.attach("ls", "/guest")
    assert done.returncode == 0, done.stderr
    assert b"kexec" not in done.stdout


def ended_by(guest, command: str) -> str:
    """Type a command into the guest during a session, and return what that says at its end."""
    with guest.session("sh", "-c", "echo begun; exec sleep 1000") as session:
        assert session.stdout.readline() == b"begun\n"
        guest.console.socket.sendall(f"{command}\n".encode())
        assert session.wait(60) == 1
        said = session.stderr.read().decode()
    assert said.count("\n") == 1
    return said
