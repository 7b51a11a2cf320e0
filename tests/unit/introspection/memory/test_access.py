"""Both ways to reach another process's memory give the same, and touch only what exists."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mizzen.introspection.memory import mappings
from mizzen.introspection.memory.physical import BadAddress
from mizzen.introspection.memory.process import ProcessMemory
from mizzen.introspection.memory.shared import SharedMemory

SIZE = 64 << 20
HOLDER = """
import mmap, os, sys
size = {size}
private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
memory = mmap.mmap({file}, size) if {file} >= 0 else mmap.mmap(-1, size, private)
memory[4096:4101] = b"hello"
memory[size - 4096:size - 4091] = b"world"
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["private", "memfd"])
def memory(request):
    """RAM of a process that merely holds it, touched at two places."""
    file = -1
    if request.param == "memfd":
        file = os.memfd_create("ram")
        os.ftruncate(file, SIZE)
    code = HOLDER.format(size=SIZE, file=file)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[file] if file >= 0 else [],
    )
    if file >= 0:
        os.close(file)
    assert process.stdout.readline() == b"ready\n"
    mapping = next(
        m for m in mappings.candidates(mappings.of_process(process.pid)) if m.size == SIZE
    )
    kind = SharedMemory if mapping.shared else ProcessMemory
    opened = kind(process.pid, mapping)
    yield opened
    opened.close()
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_only_touched_blocks_exist(memory):
    pages = {
        address for start, size in memory.blocks() for address in range(start, start + size, 4096)
    }
    assert {4096, SIZE - 4096} <= pages
    assert len(pages) < 600  # a transparent huge page at most


def test_what_is_written_is_read(memory):
    assert memory.read(4096, 5) == b"hello"
    memory.write(8192, b"12345678")
    memory.write(8200, b"abc")
    assert memory.read(8192, 11) == b"12345678abc"


@pytest.mark.parametrize("address,size", [(-1, 4), (SIZE - 2, 4), (SIZE, 1), (0, SIZE + 1)])
def test_outside_of_ram_is_refused(memory, address, size):
    with pytest.raises(BadAddress):
        memory.read(address, size)
    with pytest.raises(BadAddress):
        memory.write(address, bytes(size))


def test_looking_does_not_make_the_process_grow(memory):
    before = list(memory.blocks())
    for start, size in before:
        memory.read(start, size)
    assert list(memory.blocks()) == before
