"""What cannot be entered is refused in one line that says what, why and what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from ending import ending

from mizzen.introspection import target
from mizzen.model.errors import Failure

pytestmark = pytest.mark.machine


def attach(named: str, environment: dict[str, str], *options: str):
    return subprocess.run(
        [sys.executable, "-m", "mizzen", "attach", named, *options, "--", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )


@pytest.fixture
def environment(tmp_path):
    return {
        **os.environ,
        "MIZZEN_STATE": str(tmp_path / "state"),
        "MIZZEN_RUNTIME": str(tmp_path / "run"),
    }


@pytest.mark.parametrize(
    ("named", "status", "words"),
    [
        ("pid:4194304", 1, "no such process"),
        ("pid:x", 2, "pid:NUMBER"),
        ("pid:0", 2, "pid:NUMBER"),
        ("nosuch", 1, "mizzen machines list"),
    ],
)
def test_a_wrong_target(environment, named, status, words):
    done = attach(named, environment)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_process_that_is_no_hypervisor(environment):
    with ending(subprocess.Popen(["sleep", "1000"])) as process:
        done = attach(f"pid:{process.pid}", environment)
        process.kill()
    assert done.returncode == 1
    assert "no hypervisor" in done.stderr


def test_a_process_with_much_memory_that_is_no_hypervisor(environment):
    code = "data = b'x' * (64 << 20); print(flush=True); input()"
    with ending(
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    ) as process:
        process.stdout.readline()
        done = attach(f"pid:{process.pid}", environment)
        process.kill()
    assert done.returncode == 1
    assert "no hypervisor" in done.stderr


def test_a_guest_that_has_not_booted_yet(boot):
    guest = boot("-S", wait=False)
    done = guest.attach("true")
    assert done.returncode == 1
    assert b"not booted yet" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_guest_without_linux(environment):
    """Only the firmware runs."""
    with ending(
        subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none"]
        )
    ) as process:
        done = attach(f"pid:{process.pid}", environment)
        process.kill()
    assert done.returncode == 1
    assert "not Linux" in done.stderr


def test_a_second_attach_names_the_first(guest):
    with guest.session("sh", "-c", "echo begun; cat", stdin=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"begun\n"
        second = guest.attach("true")
        first.stdin.close()
        assert first.wait(60) == 0
    assert second.returncode == 1
    assert f"process {first.pid} is attached".encode() in second.stderr


def test_somebody_without_the_right_to_read_memory(guest):
    """In a child that gives up root, since another user may not be able to read this checkout."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        try:
            with target.opened(guest.process.pid):
                os.write(writer, b"entered")
        except Failure as failure:
            os.write(writer, str(failure).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as words:
        assert "run it as root" in words.read()


def test_tools_that_are_not_there(guest):
    done = guest.attach("true", options=("--tools", "./nowhere"))
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1


def test_tools_that_do_not_fit_a_guest_without_fuse(guest, tmp_path):
    if "fuse" in guest.console.run("cat /proc/filesystems"):
        pytest.skip("it has FUSE")
    (tmp_path / "large").write_bytes(bytes(150 << 20))
    done = guest.attach("true", options=("--tools", str(tmp_path)))
    assert done.returncode == 1
    assert b"lacks FUSE" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert guest.attach("true").returncode == 0


def test_a_guest_that_dies_ends_the_session(boot):
    guest = boot()
    with guest.session("sh", "-c", "echo begun; sleep 1000") as session:
        assert session.stdout.readline() == b"begun\n"
        guest.process.send_signal(signal.SIGKILL)
        assert session.wait(60) == 1
        assert b"has ended" in session.stderr.read()
