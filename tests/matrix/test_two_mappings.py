"""RAM is found wherever a process holds it: no code asks which hypervisor it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from matrix.cases import Case
from matrix.machines import booted

from mizzen.introspection import target

pytestmark = pytest.mark.machine

HOLE = 3 << 30
"""Where QEMU's microvm, Firecracker and Cloud Hypervisor end their lower RAM."""

ABOVE = 4 << 30
SIZE = 5 << 30

HOLDER = """
import mmap, os, sys
path, hole, size, snapshot, *order = sys.argv[1:]
parts = {"lower": (0, int(hole)), "upper": (int(hole), int(size) - int(hole))}
file, held = os.open(path, os.O_RDONLY), []

def load(memory, start, length):
    at = start
    while at < start + length:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
            end = min(os.lseek(file, at, os.SEEK_HOLE), start + length)
        except OSError:
            return
        while at < end:
            data = os.pread(file, min(end - at, 1 << 20), at)
            memory[at - start : at - start + len(data)] = data
            at += len(data)

for word in order:
    private = {"flags": mmap.MAP_PRIVATE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
    if word == "gap":
        held.append(mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE, prot=0))
    elif snapshot == "snapshot":
        start, length = parts[word]
        held.append(mmap.mmap(file, length, offset=start, **private))
    else:
        held.append(mmap.mmap(-1, parts[word][1], **private))
        load(held[-1], *parts[word])
print("loaded", flush=True)
sys.stdin.read()
"""
"""Holds a dump as hypervisors hold RAM: in memory, or as a snapshot's file that is mapped and
not yet touched. The words that follow are mapped in turn, each below the one before."""


@pytest.fixture(scope="module")
def dump(files_of) -> Iterator[tuple[Path, str]]:
    """The RAM of a guest of 5 GiB, in a file with holes, and its kernel's release."""
    case = Case("6.12 cloud", memory=SIZE >> 20, backing="disk file")
    with booted(case, files_of(case)) as guest:
        release = guest.console.run("uname -r")
        guest.process.send_signal(signal.SIGSTOP)
        yield guest.folder / "ram", release


@contextmanager
def held(path: Path, kind: str, *order: str) -> Iterator[int]:
    """Run a process that holds a dump; yield its pid."""
    words = [str(path), str(HOLE), str(SIZE), kind, *order]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"loaded\n"
            yield holder.pid
        finally:
            holder.kill()


@pytest.mark.parametrize("kind", ["memory", "snapshot"])
@pytest.mark.parametrize(
    "order",
    [("lower", "gap", "upper"), ("upper", "gap", "lower"), ("lower", "upper"), ("upper", "lower")],
    ids=" ".join,
)
def test_a_guest_in_two_mappings(dump: tuple[Path, str], kind: str, order: tuple[str, ...]):
    path, release = dump
    with path.open("rb") as file:
        upper = os.lseek(file.fileno(), HOLE, os.SEEK_DATA)
        expected = os.pread(file.fileno(), 4096, upper)
    assert any(expected)
    with held(path, kind, *order) as pid, target.opened(pid) as guest:
        assert guest.kernel.release == release
        assert guest.kernel.memory.read(ABOVE + upper - HOLE, len(expected)) == expected
