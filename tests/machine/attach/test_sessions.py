"""What a user does in a session, on kernels that Mizzen did not choose."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.machine


@pytest.fixture
def terminal(guest, on_terminal):
    return on_terminal(guest.arguments(), guest.environment)


def test_the_status_of_a_command_comes_back_and_the_guest_runs_on(guest):
    warnings = "dmesg -r | grep '^<[0-4]>'"
    before = guest.console.run(warnings)
    assert guest.attach("/bin/sh", "-c", "exit 7").returncode == 7
    assert guest.attach("sh", "-c", "kill -9 $$").returncode == 137
    assert guest.attach("no-such-program").returncode == 127
    assert guest.console.run("echo alive") == "alive"
    assert guest.console.run(warnings) == before


def test_stdin_stdout_and_stderr_are_pipes_of_their_own(guest):
    done = guest.attach("sh", "-c", "cat; echo problem >&2", stdin=b"question\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"question\n", b"problem\n")


def test_bytes_pass_unchanged_in_both_directions(guest):
    data = bytes(range(256)) * 8192
    done = guest.attach("sh", "-c", "tee /tmp/copy; sha256sum /tmp/copy >&2", stdin=data)
    assert done.stdout == data
    assert done.stderr.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_script_on_stdin_is_run_by_the_shell(guest):
    assert guest.attach(stdin=b"cd /guest\npwd\nexit 3\n").stdout == b"/guest\n"


def test_the_session_is_inside_that_very_guest(guest):
    guest.console.run("echo secret >/root/note; (sleep 1234 &)")  # no job to be told of
    try:
        done = guest.attach(
            "sh", "-c", "cat /guest/root/note; ps; hostname; echo new >/guest/root/new"
        )
        assert b"secret" in done.stdout
        assert b"sleep 1234" in done.stdout
        assert guest.console.run("cat /root/new") == "new"
    finally:
        guest.console.run("killall sleep; rm -f /root/note /root/new")


def test_background_processes_end_with_the_session(guest):
    done = guest.attach("sh", "-c", "sleep 4321 & echo started")
    assert done.stdout == b"started\n"
    assert guest.console.run("ps | grep -c '[s]leep 4321'") == "0"


def test_tools_come_from_a_folder(guest, tmp_path):
    tools = tmp_path / "tools"
    (tools / "bin").mkdir(parents=True)
    (tools / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    (tools / "bin/sh").chmod(0o755)
    (tools / "etc").mkdir()
    (tools / "etc/motto").write_text("festina lente\n")
    done = guest.attach(
        "sh", "-c", "read -r line </etc/motto; echo $line", options=("--tools", str(tools))
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"festina lente\n", b"")


def test_a_terminal_has_size_job_control_and_interrupts(terminal):
    terminal.wait_for("# ")
    terminal.type("stty size\r")
    terminal.wait_for("24 80")
    terminal.resize(40, 132)
    terminal.wait_for("# ")
    deadline = time.monotonic() + 60
    while True:
        terminal.type("echo size: $(stty size)!\r")
        terminal.wait_for("size: $(stty size)!")
        if "40 132" in terminal.wait_for("!"):
            break
        assert time.monotonic() < deadline
    # what a key is typed for must be running: keys reach the foreground's processes alone
    terminal.type("sh -c 'echo u\"p\"; exec sleep 1000'\r")
    terminal.wait_for("up\r\n")
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.type('sh -c \'trap "exit 9" INT; echo u"p"; while :; do sleep 1; done\'\r')
    terminal.wait_for("up\r\n")
    terminal.type("\x03")
    terminal.wait_for("# ")
    terminal.type("echo status $?.\r")
    terminal.wait_for("status 9.")
    terminal.type("kill -9 %1; exec true\r")
    assert terminal.process.wait(60) == 0


def test_the_greeting_tells_where_the_guest_is(terminal):
    greeting = terminal.wait_for("# ")
    assert "Linux 6." in greeting
    assert "/guest" in greeting
    terminal.type("\x04")
    assert terminal.process.wait(60) == 0


def test_the_escape_leaves_a_session_that_hangs(terminal):
    terminal.wait_for("# ")
    terminal.type("trap '' INT TERM HUP; echo u\"p\"; while :; do :; done\r")
    terminal.wait_for("up\r\n")
    terminal.type("~.")
    assert terminal.process.wait(60) == 255


def test_a_signal_ends_the_session_and_its_command(guest):
    running = subprocess.Popen(
        guest.arguments("sh", "-c", "echo begun; sleep 5432"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=guest.environment,
    )
    with running:
        assert running.stdout.readline() == b"begun\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 130
    assert guest.console.run("ps | grep -c '[s]leep 5432'") == "0"


def test_a_terminal_that_is_hung_up_ends_the_session(guest):
    """Not the controlling one, of which SIGHUP would tell."""
    master, slave = pty.openpty()
    command = ("sh", "-c", "stty raw; echo up; exec cat")
    with guest.session(*command, stdin=slave, stdout=slave) as session:
        os.close(slave)
        seen = b""
        while b"up" not in seen:
            seen += os.read(master, 4096)
        os.close(master)
        assert session.wait(60) == 130
        assert session.stderr.read() == b""
