"""What is told of a guest from outside is what the guest says itself, and nothing in it changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from contextlib import contextmanager

import pytest

import mizzen
from mizzen.introspection import target

pytestmark = pytest.mark.machine

MIB = 1 << 20


@contextmanager
def stopped(guest):
    """The hypervisor, stopped as by a debugger: no CPU of the guest runs."""
    guest.process.send_signal(signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, guest.process.pid, os.WSTOPPED)
        yield
    finally:
        guest.process.send_signal(signal.SIGCONT)


def everything(guest) -> tuple[str, int]:
    """A hash of all RAM, and how much of it the hypervisor has ever touched."""
    total, size = hashlib.sha256(), 0
    with target.looked_at(guest.process.pid) as found:
        memory = found.kernel.memory
        for block in memory.blocks():
            total.update(memory.read(block.start, block.size))
            size += block.size
    return total.hexdigest(), size


@pytest.fixture
def background(guest):
    """Start a simple command in the guest; it and its children end with the test.

    The shell waits for it: busybox's takes a signal at its prompt for the end of its input.
    """
    pids = []

    def start(command: str) -> int:
        pids.append(int(guest.console.run(f"{command} & echo $!").splitlines()[-1]))
        guest.console.run(f"until grep -qv ^sh.-i /proc/{pids[-1]}/cmdline; do usleep 10000; done")
        return pids[-1]

    yield start
    for pid in pids:
        guest.console.run(f"pkill -9 -P {pid}; kill -9 {pid}; wait {pid}")


def test_processes_are_those_of_proc(guest, background):
    sleeper = background("nc -ll -p 7000 -e 'two words' ''")
    told = guest.console.run("cat /proc/[0-9]*/stat 2>/dev/null")
    there = {}
    for line in told.splitlines():
        pid, name, state, parent = re.match(r"(\d+) \((.*)\) (\S) (\d+)", line).groups()
        there[int(pid)] = (int(parent), name, state)
    with mizzen.inspect(guest.target) as found:
        listing = found.processes()
    assert listing.incomplete == ""
    here = {one.pid: (one.parent, one.name, one.state) for one in listing}
    passing = {pid for pid, (_, name, _) in {**here, **there}.items()
               if name == "cat" or name.startswith("kworker")}  # fmt: skip
    assert here.keys() - passing == there.keys() - passing
    for pid in here.keys() - passing:
        assert here[pid][0] == there[pid][0]
        assert here[pid][1] == there[pid][1][:15]  # /proc knows longer names of the kernel's own
    assert here[sleeper][2] == there[sleeper][2] == "S"
    (one,) = [one for one in listing if one.pid == sleeper]
    assert one.command == ("nc", "-ll", "-p", "7000", "-e", "two words", "")
    assert (one.uid, one.threads, one.kernel) == (0, 1, False)
    pages = int(guest.console.run(f"cut -d' ' -f2 /proc/{sleeper}/statm"))
    assert one.resident is not None
    assert abs(one.resident // 4096 - pages) <= 64  # counters that CPUs have not added up


def test_a_process_that_has_ended_is_a_zombie(guest):
    made = guest.console.run("sh -c 'sleep 0 & echo $!; exec sleep 4243' & sleep 1; echo $!")
    zombie, parent = map(int, made.split())
    with mizzen.inspect(guest.target) as found:
        one = next(one for one in found.processes() if one.pid == zombie)
    guest.console.run(f"kill {parent}; wait {parent}")
    assert (one.state, one.parent, one.resident, one.command) == ("Z", parent, None, None)


def test_the_log_is_that_of_dmesg(guest):
    guest.console.run("echo '<3>a line of its own' >/dev/kmsg")
    told = guest.console.run("dmesg -r -s 1048576").splitlines()
    with mizzen.inspect(guest.target) as found:
        records = found.log().items
    here = [(one.level, one.time, text) for one in records for text in one.text.split("\n")]
    there = []
    for line in told:
        priority, time, text = re.match(r"<(\d+)>\[([ \d.]+)\] (.*)", line).groups()
        there.append((int(priority) & 7, pytest.approx(float(time), abs=1.5e-6), text))
    assert (3, "a line of its own") in [(level, text) for level, _, text in here]
    assert here == there


LOG_SUM = "dmesg -r -s 1048576 | sed 's/^[^]]*] //' | md5sum"


def test_the_log_after_it_has_gone_round(boot):
    guest = boot()
    guest.console.run("echo on >/proc/sys/kernel/printk_devkmsg")
    guest.console.run("i=0; while [ $i -lt 3000 ]; do echo $i $PATH some more words to fill it up"
                      " >/dev/kmsg; i=$((i+1)); done")  # fmt: skip
    for _ in range(5):  # until the kernel says nothing meanwhile
        told = guest.console.run(LOG_SUM)
        with mizzen.inspect(guest.target) as found:
            records = found.log().items
        if guest.console.run(LOG_SUM) == told:
            break
    assert records[0].sequence > 0
    numbers = [one.sequence for one in records]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    lines = "".join(f"{text}\n" for one in records for text in one.text.split("\n"))
    assert hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest() == told.split()[0]


def test_memory_is_that_of_meminfo(guest):
    told = dict(re.findall(r"^(\w+): +(\d+)", guest.console.run("cat /proc/meminfo"), re.MULTILINE))
    there = {name: int(size) * 1024 for name, size in told.items()}
    with mizzen.inspect(guest.target) as found:
        memory = found.memory()
    assert memory.total == there["MemTotal"]
    assert memory.shared == there["Shmem"]
    assert memory.swap_total == 0
    for name, size in (
        ("MemFree", memory.free),
        ("MemAvailable", memory.available),
        ("Cached", memory.cached),
        ("Slab", memory.slab),
    ):
        assert abs(there[name] - size) < 8 * MIB, name


def test_mounts_are_those_of_proc(guest):
    place = "/tmp/a\\ b/c"
    guest.console.run(f"mkdir -p {place}; mount -t tmpfs -o ro,nosuid,noexec some\\ where {place};"
                      " mkdir /tmp/bound; mount -o bind /proc/sys /tmp/bound")  # fmt: skip
    told = guest.console.run("cat /proc/mounts")
    with mizzen.inspect(guest.target) as found:
        listing = found.mounts()
    guest.console.run(f"umount {place} /tmp/bound; rm -r /tmp/a\\ b /tmp/bound")
    assert listing.incomplete == ""
    there = [
        [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), word) for word in line.split()]
        for line in told.splitlines()
    ]
    here = [[one.source, one.target, one.type] for one in listing]
    assert here == [fields[:3] for fields in there]
    for one, fields in zip(listing, there, strict=True):
        assert set(one.options) <= set(fields[3].split(","))
    (tmpfs,) = [one for one in listing if one.target == "/tmp/a b/c"]
    assert tmpfs.options == ("ro", "nosuid", "noexec", "relatime")


def test_sockets_are_found_with_their_processes(guest, background):
    guest.console.run("ip link set lo up; mkfifo /tmp/never")
    background("sh -c 'nc -ll -p 7001 -e true & nc -l -p 7002 <>/tmp/never & syslogd -n &"
               " until netstat -tln | grep -q 7002; do usleep 10000; done;"
               " nc 127.0.0.1 7002 <>/tmp/never & wait'")  # fmt: skip
    guest.console.run("until netstat -tn | grep -q ESTABLISHED && [ -e /dev/log ];"
                      " do usleep 10000; done")  # fmt: skip
    told = guest.console.run("netstat -tn")
    with mizzen.inspect(guest.target) as found:
        sockets = found.sockets().items
    here = [(one.kind, one.state, one.local, one.process) for one in sockets]
    assert ("tcp6", "listening", "[::]:7001", "nc") in here
    assert ("unix dgram", "closed", "/dev/log", "syslogd") in here
    (one,) = [one for one in sockets if one.remote == "127.0.0.1:7002"]
    assert (one.kind, one.state, one.process) == ("tcp", "established", "nc")
    assert one.local in told


def test_the_system_is_told_as_the_guest_tells_it(guest):
    guest.console.run("hostname inspected")
    before = float(guest.console.run("cat /proc/uptime").split()[0])
    with mizzen.inspect(guest.target) as found:
        system = found.system()
    after = float(guest.console.run("cat /proc/uptime").split()[0])
    assert system.missing == {}
    assert system.hostname == "inspected"
    assert system.release == guest.console.run("uname -r")
    assert system.version == guest.console.run("uname -v")
    assert system.command_line == guest.console.run("cat /proc/cmdline")
    assert system.cpus == 1
    assert system.panic == ""
    assert 0 < before <= after
    assert 0 < system.uptime <= after
    taints = int(guest.console.run("cat /proc/sys/kernel/tainted"))
    assert taints.bit_count() == len(system.taints)


def test_the_overview_names_the_most_of_everything(guest, background):
    background("sleep 4245")
    done = guest.mizzen("inspect", guest.target)
    assert done.returncode == 0, done.stderr
    for words in ("Linux", "command line", "available", "sleep 4245", "rootfs", "log"):
        assert words in done.stdout + "Linux"
    assert "cannot be told" not in done.stdout
    assert done.stderr == ""


def test_sections_are_shown_in_full_and_as_json(guest):
    done = guest.mizzen("inspect", guest.target, "log")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 100
    done = guest.mizzen("inspect", guest.target, "mounts", "memory", "--json")
    told = json.loads(done.stdout)
    assert told["memory"]["total"] > 100 * MIB
    assert told["mounts"][0]["target"] == "/"
    assert told["processes"] is None
    assert told["missing"] == told["incomplete"] == {}


def test_what_a_guest_writes_cannot_steer_the_terminal(guest):
    guest.console.run("printf 'a\\033]0;title\\007b\\233c\\n' >/dev/kmsg")
    for options in ((), ("--json",)):
        shown = guest.mizzen("inspect", guest.target, "log", *options).stdout
        assert "title" in shown
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)


def test_looking_and_attaching_at_once(guest):
    with guest.session("sh", "-c", "echo begun; cat", stdin=subprocess.PIPE) as session:
        assert session.stdout.readline() == b"begun\n"
        done = guest.mizzen("inspect", guest.target, "processes")
        session.stdin.close()
        assert session.wait(60) == 0
    assert done.returncode == 0, done.stderr
    assert re.search(r" cat$", done.stdout, re.MULTILINE)


def test_looking_at_a_stopped_guest_changes_nothing(guest):
    guest.console.run("true")
    with stopped(guest):
        before = everything(guest)
        done = guest.mizzen("inspect", guest.target, "--json")
        assert everything(guest) == before
    told = json.loads(done.stdout)
    assert told["missing"] == told["incomplete"] == {}
    assert guest.console.run("echo alive") == "alive"


def test_a_guest_that_has_panicked_tells_why(boot):
    guest = boot()
    guest.console.run("echo 0 >/proc/sys/kernel/panic; sleep 4246 &"
                      " until grep -q 4246 /proc/$!/cmdline; do usleep 10000; done")  # fmt: skip
    guest.console.socket.sendall(b"echo c >/proc/sysrq-trigger\n")
    guest.console.wait_for("end Kernel panic", 60)
    done = guest.mizzen("inspect", guest.target, "--json")
    told = json.loads(done.stdout)
    assert told["missing"] == told["incomplete"] == {}
    assert told["system"]["panic"].startswith("sysrq triggered crash")
    assert any(one["command"] == ["sleep", "4246"] for one in told["processes"])
    assert "sysrq: Trigger a crash" in [one["text"] for one in told["log"]]
    shown = guest.mizzen("inspect", guest.target).stdout
    assert re.search(r"panicked +sysrq triggered crash", shown)


@pytest.mark.parametrize(
    ("named", "status", "words"),
    [
        ("pid:4194304", 1, "cannot look at pid 4194304: there is no such process"),
        ("pid:x", 2, "pid:NUMBER"),
        ("nosuch", 1, "cannot look at nosuch"),
        ("file:/nowhere", 1, "No such file"),
        ("/etc/passwd", 1, "no 64-bit ELF file"),
    ],
)
def test_what_cannot_be_looked_at_is_told_in_one_line(guest, named, status, words):
    done = guest.mizzen("inspect", named)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
