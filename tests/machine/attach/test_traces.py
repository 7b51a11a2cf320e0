"""Detaching leaves the guest as it was, also when the host side was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from mizzen.introspection import target
from mizzen.model.errors import Failure
from mizzen.sessions.inject import entry, hooks

pytestmark = pytest.mark.machine

LOOK = """
echo processes; ps -o args | sort -u | grep -v -e '\\[' -e ps -e grep -e sort
echo mounts; cat /proc/mounts
echo files; find / -xdev | sort | grep -v ^/proc
echo devices; find /dev | sort | sha256sum
echo tainted; cat /proc/sys/kernel/tainted
echo log; dmesg -r | grep '^<[0-4]>'
"""
WIPE_SECONDS = 60


def seen_inside(guest) -> str:
    """What the guest itself can see, told on its console."""
    return guest.console.run(LOOK.strip().replace("\n", "; "))


@pytest.fixture(autouse=True)
def quiet(guest):
    """Sessions of other tests have left."""
    wait_until(lambda: guest.console.run("ps | grep -c '[m]izzen'") == "0", 60)


def wait_until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def seen_outside(guest) -> tuple[bytes, list[tuple[int, int]]]:
    """The kernel's text, and what every hook holds."""
    with target.opened(guest.process.pid) as opened:
        kernel = opened.kernel
        _, text = kernel.read_image("_stext", "_etext")
        return text, [(hook.slot, hook.original) for hook in hooks.find(kernel)]


def wait_until_text_is(guest, before: bytes) -> None:
    """The guest wipes borrowed text by itself, after a grace period of its scheduler."""
    wait_until(lambda: seen_outside(guest)[0] == before, WIPE_SECONDS)


def test_everything_is_as_it_was(guest):
    inside, (text, slots) = seen_inside(guest), seen_outside(guest)
    done = guest.attach("sh", "-c", "mkdir /tmp/x; mount -t tmpfs none /tmp/x; sleep 999 & true")
    assert done.returncode == 0, done.stderr
    wait_until_text_is(guest, text)
    assert seen_outside(guest)[1] == slots
    assert seen_inside(guest) == inside


def test_memory_comes_back(guest):
    def free() -> int:
        return int(
            guest.console.run(
                "sync; echo 3 >/proc/sys/vm/drop_caches; grep MemFree /proc/meminfo"
            ).split()[-2]
        )

    text, _ = seen_outside(guest)
    guest.attach("true")
    wait_until_text_is(guest, text)
    before = free()
    for _ in range(5):
        assert guest.attach("true").returncode == 0
    wait_until_text_is(guest, text)
    assert before - free() < 1024  # KiB; the tools alone would take 2 MiB each time


def test_a_killed_host_leaves_nothing_running(guest):
    inside, (text, slots) = seen_inside(guest), seen_outside(guest)
    running = subprocess.Popen(
        guest.arguments("sh", "-c", "echo begun; sleep 6543"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=guest.environment,
    )
    with running:
        assert running.stdout.readline() == b"begun\n"
        running.kill()
    wait_until(lambda: seen_inside(guest) == inside, 90)
    wait_until_text_is(guest, text)
    assert seen_outside(guest)[1] == slots
    assert guest.attach("true").returncode == 0


def test_a_paused_guest_is_refused_and_unharmed(guest):
    text, slots = seen_outside(guest)
    os.kill(guest.process.pid, signal.SIGSTOP)
    try:
        done = guest.attach("true")
    finally:
        os.kill(guest.process.pid, signal.SIGCONT)
    assert done.returncode == 1
    assert b"paused" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert seen_outside(guest) == (text, slots)
    assert guest.attach("true").returncode == 0


def paused_after_first(function, seconds: float):
    """Stand for a host that is preempted at the worst moment, and a guest that goes on."""
    calls = iter(range(1 << 30))

    def paused(*arguments):
        result = function(*arguments)
        if next(calls) == 0:
            time.sleep(seconds)  # long enough for the guest's work items to come round
        return result

    return paused


def test_a_guest_that_runs_a_hook_before_the_others_are_in_place_is_unharmed(guest, monkeypatch):
    text, slots = seen_outside(guest)
    monkeypatch.setattr(hooks, "write_word", paused_after_first(hooks.write_word, 3))
    with target.opened(guest.process.pid) as opened:
        entry.start(opened.kernel, "0" * 32, opened.check)
    wait_until_text_is(guest, text)
    assert seen_outside(guest)[1] == slots
    assert guest.console.run("echo alive") == "alive"


def test_a_guest_that_runs_a_hook_while_it_is_taken_back_is_unharmed(guest, monkeypatch):
    text, slots = seen_outside(guest)

    def give_up() -> None:
        monkeypatch.setattr(hooks, "read_word", paused_after_first(hooks.read_word, 3))
        raise KeyboardInterrupt

    with target.opened(guest.process.pid) as opened, pytest.raises(KeyboardInterrupt):
        entry.start(opened.kernel, "0" * 32, give_up)
    wait_until_text_is(guest, text)
    assert seen_outside(guest)[1] == slots
    assert guest.console.run("echo alive") == "alive"


def test_hooks_of_a_host_that_was_killed_before_arming_are_taken_back(guest):
    text, slots = seen_outside(guest)
    child = os.fork()
    if not child:
        hooks.write_word = dies_when_armed(hooks.write_word)
        with target.opened(guest.process.pid) as opened:
            entry.start(opened.kernel, "0" * 32, opened.check)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with pytest.raises(Failure, match="none of the work items"):
        seen_outside(guest)  # for they all lead to code that never begins
    assert guest.console.run("echo alive") == "alive"
    assert guest.attach("true").returncode == 0
    wait_until_text_is(guest, text)
    assert seen_outside(guest)[1] == slots


def dies_when_armed(write_word):
    def write(memory, address, value):
        if value == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        write_word(memory, address, value)

    return write
