"""A dump is read by physical address; what is none, or is damaged, is refused."""

from __future__ import annotations

import contextlib
import os
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ram import Ram

from mizzen.introspection import core
from mizzen.introspection.dump import HEADER, PROGRAM_HEADER, DumpFile
from mizzen.introspection.memory.physical import BadAddress, Range
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, silent

PAGE = 4096
HIGH = 4 << 30
DIRECT_MAP = 0xFFFF_8880_0000_0000
IMAGE = 0xFFFF_FFFF_8100_0000


def elf(*loads: tuple[int, int, bytes], kind: int = 4, machine: int = 62) -> bytes:
    """A core whose segments have a physical address, a size in memory and bytes."""
    offset = HEADER.size + len(loads) * PROGRAM_HEADER.size
    table, content = b"", b""
    for physical, size, data in loads:
        table += PROGRAM_HEADER.pack(
            1, 7, offset + len(content), 0, physical, len(data), size, 0
        )  # fmt: skip
        content += data
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = HEADER.pack(identity, kind, machine, 1, 0, HEADER.size, 0, 0, HEADER.size,
                       PROGRAM_HEADER.size, len(loads), 0, 0, 0)  # fmt: skip
    return head + table + content


def overlapping(count: int) -> bytes:
    """A core whose segments all are the whole file."""
    size = HEADER.size + count * PROGRAM_HEADER.size
    head = bytearray(elf())
    struct.pack_into("<H", head, 56, count)
    return bytes(head) + b"".join(
        PROGRAM_HEADER.pack(1, 7, 0, 0, number * size, size, size, 0) for number in range(count)
    )


@pytest.fixture
def opened(tmp_path):
    with contextlib.ExitStack() as stack:

        def open_(data: bytes) -> DumpFile:
            path = tmp_path / "dump"
            path.write_bytes(data)
            return stack.enter_context(closing(DumpFile(path)))

        yield open_


def test_segments_are_read_by_address_whatever_their_order(opened):
    dump = opened(elf((2 * PAGE, PAGE, b"b" * PAGE), (0, 2 * PAGE, b"a" * 2 * PAGE)))
    assert dump.size == 3 * PAGE
    assert dump.read(2 * PAGE - 2, 4) == b"aabb"
    assert list(dump.blocks()) == [Range(0, 2 * PAGE), Range(2 * PAGE, PAGE)]


def test_memory_above_4_gib_follows_that_below_the_hole(opened):
    dump = opened(elf((HIGH, PAGE, b"h" * PAGE), (0, PAGE, b"l" * PAGE)))
    assert dump.size == 2 * PAGE
    assert dump.read(PAGE - 1, 2) == b"lh"
    assert list(dump.blocks()) == [Range(0, PAGE), Range(PAGE, PAGE)]


def test_of_segments_that_hold_the_same_memory_one_counts(opened):
    dump = opened(elf((PAGE, PAGE, b"x" * PAGE), (0, 2 * PAGE, b"a" * 2 * PAGE)))
    assert dump.read(0, 2 * PAGE) == b"a" * 2 * PAGE


def test_what_is_left_out_is_no_memory(opened):
    dump = opened(elf((0, PAGE, b"a" * PAGE), (2 * PAGE, PAGE, b"b" * PAGE)))
    for address, size in ((PAGE, 1), (PAGE - 1, 2), (3 * PAGE, 1), (2 * PAGE, PAGE + 1)):
        with pytest.raises(BadAddress):
            dump.read(address, size)


def test_a_dump_that_was_cut_off_is_read_as_far_as_it_goes(opened):
    dump = opened(elf((0, PAGE, b"a" * PAGE), (PAGE, PAGE, b"b" * PAGE))[:-100])
    assert dump.read(PAGE, PAGE - 100) == b"b" * (PAGE - 100)
    with pytest.raises(BadAddress):
        dump.read(PAGE, PAGE)


def test_nothing_is_written_to_a_dump(opened):
    data = elf((0, PAGE, b"a" * PAGE))
    dump = opened(data)
    with pytest.raises(OSError, match="Read-only"):
        dump.write(0, b"x")
    assert dump.read(0, 1) == b"a"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no 64-bit ELF file"),
        (b"#!/bin/sh\n" * 10, "no 64-bit ELF file"),
        (b"KDUMP   " + bytes(100), "makedumpfile -E"),
        (b"makedumpfile" + bytes(100), "makedumpfile -R"),
        (elf((0, 4, b"abcd"), kind=2), "no core of an x86-64 machine"),
        (elf((0, 4, b"abcd"), machine=183), "no core of an x86-64 machine"),
        (elf(), "no machine's dump"),
        (elf((1 << 60, 4, b"abcd")), "no machine's dump"),
        (overlapping(60), "more memory than it has bytes"),
    ],
)
def test_what_is_no_dump_is_refused_with_the_fact(opened, data, words):
    with pytest.raises(Failure, match=words) as failure:
        opened(data)
    assert "\n" not in str(failure.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Failure, match="No such file"):
        DumpFile(tmp_path / "nothing")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=10))
def test_damaged_headers_are_read_or_refused(tmp_path, changes):
    data = bytearray(elf((0, PAGE, b"a" * 64), (HIGH, PAGE, b"b" * 64)))
    for at, value in changes:
        data[at] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with contextlib.suppress(Failure, BadAddress), closing(DumpFile(path)) as dump:
        assert sum(block.size for block in dump.blocks()) <= len(data)
        dump.read(0, 64)


class Memory(Ram):
    """RAM in two parts, of which some was never touched."""

    def __init__(self) -> None:
        super().__init__(16 * PAGE)
        self.ranges = (Range(0, 12 * PAGE), Range(HIGH, 4 * PAGE))
        self.touched = [Range(0, 2 * PAGE), Range(8 * PAGE, 4 * PAGE), Range(HIGH, PAGE)]

    def read(self, address: int, size: int) -> bytes:
        start = address if address < HIGH else address - HIGH + 12 * PAGE
        return bytes(self.data[start : start + size])

    def blocks(self):
        yield from self.touched


def written(path: Path, reports: list[Progress] | None = None) -> Memory:
    memory = Memory()
    for block in memory.touched:
        start = block.start if block.start < HIGH else block.start - HIGH + 12 * PAGE
        memory.data[start : start + block.size] = os.urandom(block.size)
    image = (IMAGE, Range(8 * PAGE, 2 * PAGE))
    plan = core.plan(memory.ranges, image, DIRECT_MAP, b"OSRELEASE=6.6.6\n")
    with path.open("w+b") as file:
        report = silent if reports is None else reports.append
        core.write(plan, memory, file.fileno(), report)
    return memory


def test_what_was_written_as_a_core_is_read_as_it_was(tmp_path):
    memory = written(tmp_path / "core")
    with closing(DumpFile(tmp_path / "core")) as dump:
        assert dump.read(0, 16 * PAGE) == bytes(memory.data)
        assert dump.low == 12 * PAGE
        assert dump.size == 16 * PAGE


def test_a_cores_segments_say_where_memory_is_mapped(tmp_path):
    written(tmp_path / "core")
    data = (tmp_path / "core").read_bytes()
    headers = [
        PROGRAM_HEADER.unpack_from(data, HEADER.size + number * PROGRAM_HEADER.size)
        for number in range(4)
    ]
    assert [(h[0], h[3], h[4], h[5]) for h in headers[1:]] == [
        (1, DIRECT_MAP, 0, 12 * PAGE),
        (1, DIRECT_MAP + HIGH, HIGH, 4 * PAGE),
        (1, IMAGE, 8 * PAGE, 2 * PAGE),
    ]
    assert all(offset % PAGE == 0 for _, _, offset, *_ in headers[1:])
    kind, _, offset, _, _, size, *_ = headers[0]
    name, text, number = struct.unpack_from("<III", data, offset)
    assert (kind, name, text, number) == (4, 11, 16, 0)
    assert data[offset + 12 : offset + size] == b"VMCOREINFO\0\0OSRELEASE=6.6.6\n"


def test_memory_that_was_never_touched_takes_no_room(tmp_path):
    memory = Memory()
    memory.ranges = (Range(0, 1 << 30),)
    memory.touched = [Range(0, PAGE)]
    memory.data[:4] = b"text"
    plan = core.plan(memory.ranges, (IMAGE, Range(0, PAGE)), DIRECT_MAP, b"A=1\n")
    with (tmp_path / "core").open("w+b") as file:
        core.write(plan, memory, file.fileno(), silent)
        status = os.fstat(file.fileno())
    assert status.st_size > 1 << 30
    assert status.st_blocks * 512 < 1 << 20


def test_progress_goes_from_nothing_to_all(tmp_path):
    reports: list[Progress] = []
    written(tmp_path / "core", reports)
    assert reports[0].done == 0
    assert reports[-1].finished
    assert reports[-1].done == reports[-1].total == 7 * PAGE
