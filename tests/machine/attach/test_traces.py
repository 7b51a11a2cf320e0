"""Detaching leaves the guest as it was, also when the host side was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mizzen.host.paths import guest_binary
from mizzen.introspection import target
from mizzen.introspection.memory.physical import PAGE
from mizzen.introspection.paging.tables import PageTables
from mizzen.model.errors import Failure
from mizzen.sessions.inject import blob, entry, hooks, place

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


@dataclass(frozen=True)
class Outside:
    """What attach touches: the kernel's text, its hooks, its page directory, the lowest memory."""

    text: bytes
    hooks: tuple[int, ...]
    directory: bytes
    low: bytes


def seen_outside(guest) -> Outside:
    with target.opened(guest.process.pid) as opened:
        kernel = opened.kernel
        text = b"".join(
            kernel.memory.read(run.physical, run.size) for run in kernel.image if run.executable
        )
        pointers = tuple(hook.original for hook in hooks.find(kernel))
        directory = kernel.memory.read(kernel.directory, PAGE)
        return Outside(text, pointers, directory, kernel.memory.read(0, place.LOW))


def wait_until_it_is(guest, before: Outside) -> None:
    """The guest wipes what was lent to it by itself, after a grace period."""
    wait_until(lambda: seen_outside(guest) == before, WIPE_SECONDS)


def test_everything_is_as_it_was(guest):
    inside, outside = seen_inside(guest), seen_outside(guest)
    done = guest.attach("sh", "-c", "mkdir /tmp/x; mount -t tmpfs none /tmp/x; sleep 999 & true")
    assert done.returncode == 0, done.stderr
    assert seen_outside(guest) == outside
    assert seen_inside(guest) == inside


def test_memory_comes_back(guest):
    def free() -> int:
        return int(
            guest.console.run(
                "sync; echo 3 >/proc/sys/vm/drop_caches; grep MemFree /proc/meminfo"
            ).split()[-2]
        )

    guest.attach("true")
    before = free()
    for _ in range(5):
        assert guest.attach("true").returncode == 0
    # KiB; the tools alone would take 2 MiB each time. The last session may still be going.
    wait_until(lambda: before - free() < 1024, WIPE_SECONDS)


def test_a_killed_host_leaves_nothing_running(guest):
    inside, outside = seen_inside(guest), seen_outside(guest)
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
    assert guest.attach("true").returncode == 0
    assert seen_outside(guest) == outside


def test_a_paused_guest_is_refused_and_unharmed(guest, monkeypatch):
    """What was put there stays, since a CPU may be on its way to it; the next attach wipes it."""
    outside = seen_outside(guest)
    monkeypatch.setattr(entry, "HOOK_SECONDS", 2)
    os.kill(guest.process.pid, signal.SIGSTOP)
    try:
        with target.opened(guest.process.pid) as opened, pytest.raises(Failure, match="paused"):
            entry.start(opened.kernel, "0" * 32, opened.check)
    finally:
        os.kill(guest.process.pid, signal.SIGCONT)
    assert seen_outside(guest).hooks == outside.hooks
    assert guest.attach("true").returncode == 0
    wait_until_it_is(guest, outside)


def paused_after_first(function, seconds: float):
    """Stand for a host that is preempted at the worst moment, and a guest that goes on."""
    calls = iter(range(1 << 30))

    def paused(*arguments):
        result = function(*arguments)
        if next(calls) == 0:
            time.sleep(seconds)  # long enough for softirqs to come
        return result

    return paused


def test_a_guest_that_runs_a_hook_before_the_others_are_in_place_is_unharmed(guest, monkeypatch):
    outside = seen_outside(guest)
    monkeypatch.setattr(hooks, "write_word", paused_after_first(hooks.write_word, 3))
    with target.opened(guest.process.pid) as opened:
        entry.start(opened.kernel, "0" * 32, opened.check).settle()
    wait_until_it_is(guest, outside)
    assert guest.console.run("echo alive") == "alive"


def test_a_guest_that_runs_a_hook_while_it_is_taken_back_is_unharmed(guest, impatient, monkeypatch):
    outside = seen_outside(guest)
    monkeypatch.setattr(entry, "guest_binary", instead(impatient))

    def give_up() -> None:
        monkeypatch.setattr(hooks, "read_word", paused_after_first(hooks.read_word, 3))
        raise KeyboardInterrupt

    with target.opened(guest.process.pid) as opened, pytest.raises(KeyboardInterrupt):
        entry.start(opened.kernel, "0" * 32, give_up)
    assert seen_outside(guest).hooks == outside.hooks
    assert guest.console.run("echo alive") == "alive"
    assert guest.attach("true").returncode == 0
    wait_until_it_is(guest, outside)


def test_hooks_of_a_host_that_was_killed_before_arming_are_taken_back(guest):
    outside = seen_outside(guest)
    child = signalled(guest, blob.ARMED, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with pytest.raises(Failure, match="softirqs"):
        seen_outside(guest)  # for they all lead to code that never begins
    assert guest.console.run("echo alive") == "alive"
    assert guest.attach("true").returncode == 0
    wait_until_it_is(guest, outside)


WROTE, REFUSED = 2, 3


def signalled(guest, offset: int, number: int, stage1: Path | None = None) -> int:
    """Attach in a child that gets a signal when it is to set a word of stage 1's data page."""
    write_word = entry.write_word

    def interrupted(memory, address, value):
        if value == 1 and address % PAGE == offset:
            os.kill(os.getpid(), number)
        write_word(memory, address, value)

    child = os.fork()
    if child:
        return child
    entry.write_word = interrupted
    if stage1:
        entry.guest_binary = instead(stage1)
    if offset == blob.CLAIMED:
        PageTables.write = lambda *_: os._exit(WROTE)
    try:
        with target.opened(guest.process.pid) as opened:
            entry.start(opened.kernel, "0" * 32, opened.check)
    except Failure as failure:
        os._exit(REFUSED if "held up" in str(failure) else 1)
    finally:
        os._exit(1)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory) -> Path:
    """A stage 1 that waits for a quarter of the time."""
    folder = tmp_path_factory.mktemp("impatient")
    source = Path(__file__).parents[3] / "guest" / "attach"
    places = (f"OUT={folder}", f"BUILD={folder}")
    built = folder / "stage1.bin"
    subprocess.run(["make", "-sC", source, *places, "CC=gcc -DSECOND=2500", built], check=True)
    return built


def instead(stage1: Path) -> Callable[[str], Path]:
    """Find guest programs, but another stage 1."""
    return lambda name: stage1 if name == stage1.name else guest_binary(name)


@contextmanager
def stage1_watched(guest) -> Iterator[Callable[[], blob.Report]]:
    """Tell what the stage 1 reports that will be put into the guest next."""
    with target.looked_at(guest.process.pid) as opened:
        memory, where = opened.kernel.memory, place.choose(opened.kernel).data_physical
        yield lambda: blob.read_report(memory.read(where, PAGE))


GONE = {
    "freed": lambda report: report.withdrawn or not report.begun,
    "wiped": lambda report: not report.begun,
}


@pytest.mark.parametrize("gone", GONE)
def test_a_host_that_is_held_up_writes_nothing_into_memory_that_is_freed(guest, impatient, gone):
    """It is stopped when it has seen the buffer, until the guest does not wait any longer."""
    outside = seen_outside(guest)
    with stage1_watched(guest) as report:
        child = signalled(guest, blob.CLAIMED, signal.SIGSTOP, impatient)
        try:
            assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
            wait_until(lambda: GONE[gone](report()), WIPE_SECONDS)
        finally:
            os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == REFUSED
    wait_until_it_is(guest, outside)
    assert guest.attach("true").returncode == 0
    wait_until_it_is(guest, outside)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_host_claimed_and_did_not_fill_is_left_to_the_next_attach(guest, impatient, number):
    outside, buffers = seen_outside(guest), buffers_of_stage1(guest)
    with stage1_watched(guest) as report:
        child = signalled(guest, blob.FILLED, number, impatient)
        status = os.waitpid(child, os.WUNTRACED)[1]
        wait_until(lambda: report().state == blob.State.PARKED, WIPE_SECONDS)
    if os.WIFSTOPPED(status):
        os.kill(child, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == REFUSED
    assert buffers_of_stage1(guest) == buffers + 1
    assert guest.attach("true").returncode == 0
    wait_until_it_is(guest, outside)
    assert buffers_of_stage1(guest) == buffers


def buffers_of_stage1(guest) -> int:
    """Count what was allocated by code that the kernel has no symbol for."""
    return int(guest.console.run("grep -c ' 0xf[0-9a-f]* pages=' /proc/vmallocinfo"))


def test_after_a_reset_the_new_kernel_is_entered(boot):
    """The kernel that ran before is still in memory, whole."""
    guest = boot("-action", "reboot=reset")
    for _ in range(2):
        guest.console.socket.sendall(b"echo b >/proc/sysrq-trigger\n")
        guest.console.wait_for("ready", 120)
        guest.console.run("true")
        done = guest.attach("sh", "-c", "cat /proc/sys/kernel/random/boot_id")
        assert done.stdout.decode().strip() == guest.console.run(
            "cat /proc/sys/kernel/random/boot_id"
        )
