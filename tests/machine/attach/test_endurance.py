"""Attach does no harm, however often, whatever the guest does meanwhile, whenever it is killed.

With --matrix as often as the project promises, otherwise a few times.
"""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import dataclass, replace

import pytest

from mizzen.introspection import target
from mizzen.introspection.memory.physical import PAGE
from mizzen.sessions.inject import blob, place

pytestmark = pytest.mark.machine

LOAD = """
(while :; do dd if=/dev/zero of=/tmp/load bs=64k count=32 2>/dev/null; done) &
(while :; do cat /proc/meminfo /proc/mounts >/dev/null; done) &
"""
LOOK = """
echo mounts; cat /proc/mounts
echo files; find / -xdev | sort | grep -v -e ^/proc -e /tmp/load
echo tainted; cat /proc/sys/kernel/tainted
echo log; dmesg -r | grep '^<[0-4]>' | grep -v 'hrtimer: interrupt took'
"""
"""A guest whose host is busy complains of late timers; that is no trace of ours."""
SETTLE_SECONDS = 60
KIB_LEFT = 1024
"""What the guest's caches may differ by; the tools of one session alone take 2 MiB."""


@dataclass(frozen=True)
class State:
    """What must be as it was. free: KiB."""

    seen: str
    low: bytes
    directory: bytes
    free: int


def line(script: str) -> str:
    return script.strip().replace("&\n", "& ").replace("\n", "; ")


@pytest.fixture
def loaded(boot):
    guest = boot("-smp", "2")
    guest.console.run(line(LOAD))
    assert guest.attach("true").returncode == 0  # what is kept for good is there from now on
    return guest


def state(guest) -> State:
    """Look at the guest when no session is left in it."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while guest.console.run("ps | grep -c '[m]izzen'") != "0":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    with target.opened(guest.process.pid) as opened:
        kernel = opened.kernel
        low, directory = (
            kernel.memory.read(0, place.LOW),
            kernel.memory.read(kernel.directory, PAGE),
        )
    return State(guest.console.run(line(LOOK)), low, directory, free(guest))


def free(guest) -> int:
    told = guest.console.run("echo 3 >/proc/sys/vm/drop_caches; grep MemFree /proc/meminfo")
    return int(told.split()[-2])


def nothing_is_lent(guest) -> None:
    """Wait until every stage 1 has ended; on a busy guest that takes longer than a session."""
    with target.looked_at(guest.process.pid) as opened:
        deadline = time.monotonic() + SETTLE_SECONDS
        while list(place.in_use(opened.kernel, blob.MAGIC)):
            assert time.monotonic() < deadline
            time.sleep(0.5)


def unchanged(guest, before: State) -> None:
    after = state(guest)
    assert after.seen == before.seen
    assert (after.low, after.directory) == (before.low, before.directory)
    deadline = time.monotonic() + SETTLE_SECONDS  # what is freed lies in lists of each CPU at first
    while before.free - free(guest) >= KIB_LEFT:
        assert time.monotonic() < deadline
        time.sleep(1)


def times(pytestconfig, few: int, many: int) -> int:
    return many if pytestconfig.getoption("--matrix") else few


@pytest.mark.timeout(3 * 3600)
def test_many_attaches_to_a_busy_guest_leave_nothing(loaded, pytestconfig):
    before = state(loaded)
    for _ in range(times(pytestconfig, 5, 500)):
        done = loaded.attach("sh", "-c", "exit 7")
        assert done.returncode == 7, done.stderr
    unchanged(loaded, before)


@pytest.mark.timeout(3 * 3600)
def test_a_host_killed_at_any_instant_does_no_harm(loaded, pytestconfig):
    chance = random.Random(7)
    before = state(loaded)
    # What such hosts leave ends side by side, seconds later: the kernel keeps room for so many.
    killed_hosts(loaded, chance, times(pytestconfig, 4, 20))
    before = replace(before, free=state(loaded).free)
    killed_hosts(loaded, chance, times(pytestconfig, 6, 200))
    unchanged(loaded, before)


def killed_hosts(guest, chance: random.Random, count: int) -> None:
    """Kill hosts at random instants; attach after each, and once more when nothing is left."""
    began = time.monotonic()
    assert guest.attach("true").returncode == 0
    whole = time.monotonic() - began
    for _ in range(count):
        delay = chance.uniform(0, 1.3 * whole)
        with subprocess.Popen(
            guest.arguments("sh", "-c", "echo begun; sleep 100"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=guest.environment,
        ) as killed:
            time.sleep(delay)  # the instant is the point
            killed.kill()
        done = guest.attach("true")
        assert done.returncode == 0, f"after a kill at {delay:.3f} s: {done.stderr.decode()}"
    nothing_is_lent(guest)
    assert guest.attach("true").returncode == 0  # takes back what the last one left mapped
