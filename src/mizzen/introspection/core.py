"""A guest's RAM written as an ELF core, laid out like the kernel's own /proc/vmcore.

A note VMCOREINFO, a segment for each part of RAM where the direct map has it, and one for the
kernel's image where that is mapped. The latter shares its bytes with RAM's, and so comes last:
crash takes what lies before the first segment's bytes for headers. It also knows a kdump by a
p_align of 0, which /proc/vmcore has too.

There is no NT_PRSTATUS: registers are not in memory while a CPU runs.

Source: fs/proc/vmcore.c; arch/x86/kernel/crash.c and kexec-tools for p_vaddr and p_paddr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mizzen.model.progress import Progress, Report

from .dump import CORE, HEADER, LOAD, PROGRAM_HEADER, X86_64
from .memory.physical import PAGE, BadAddress, PhysicalMemory, Range

NOTE = 4
READ, WRITE, EXECUTE = 4, 2, 1
NAME = b"VMCOREINFO\0"
CHUNK = 4 << 20
PIECE = 64 << 10
"""Zeros of this many bytes are not written."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD. offset: in the file."""

    virtual: int
    range: Range
    offset: int
    flags: int = READ | WRITE | EXECUTE


@dataclass(frozen=True, slots=True)
class Plan:
    """What a core will be: its first bytes, then the segments' bytes. size: of the whole file."""

    head: bytes
    segments: tuple[Segment, ...]
    size: int


def plan(ranges: Sequence[Range], image: tuple[int, Range], direct_map: int, text: bytes) -> Plan:
    """Lay out a core.

    ranges: RAM. image: the kernel's virtual address and where it is, in one of them. direct_map:
    the virtual address of physical address 0. text: of vmcoreinfo.
    """
    note = _note(text)
    at_note = HEADER.size + (len(ranges) + 2) * PROGRAM_HEADER.size
    offset = _aligned(at_note + len(note))
    segments = []
    for part in ranges:
        segments.append(Segment(direct_map + part.start, part, offset))
        offset = _aligned(offset + part.size)
    virtual, area = image
    home = next(s for s in segments if s.range.start <= area.start < s.range.end)
    area = Range(area.start, min(area.size, home.range.end - area.start))
    segments.append(Segment(virtual, area, home.offset + area.start - home.range.start))
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = HEADER.pack(
        identity, CORE, X86_64, 1, 0, HEADER.size, 0, 0, HEADER.size, PROGRAM_HEADER.size,
        len(segments) + 1, 0, 0, 0,
    )  # fmt: skip
    head += PROGRAM_HEADER.pack(NOTE, 0, at_note, 0, 0, len(note), len(note), 0)
    for one in segments:
        head += PROGRAM_HEADER.pack(
            LOAD, one.flags, one.offset, one.virtual & (1 << 64) - 1, one.range.start,
            one.range.size, one.range.size, 0,
        )  # fmt: skip
    return Plan(head + note, tuple(segments), offset)


def _note(text: bytes) -> bytes:
    """Return an Elf64_Nhdr with its name and text, both padded to 4 bytes."""
    sizes = (len(NAME), len(text), 0)
    head = b"".join(size.to_bytes(4, "little") for size in sizes)
    return head + NAME + bytes(-len(NAME) % 4) + text + bytes(-len(text) % 4)


def write(plan: Plan, memory: PhysicalMemory, file: int, report: Report) -> None:
    """Write a core. What the guest never touched, and zeros, become holes of the file.

    file: a descriptor of an empty file. Raises OSError, and Failure if the guest has gone.
    """
    _write_all(file, plan.head, 0)
    os.truncate(file, plan.size)
    blocks = list(memory.blocks())
    total = sum(block.size for block in blocks)
    task, done = f"copying {total >> 20} MiB of memory", 0
    report(Progress(task, 0, total))
    places = [(segment.range, segment.offset) for segment in plan.segments[:-1]]
    for block in blocks:
        for address, size in _chunks(block):
            offset = next(at + address - r.start for r, at in places if r.start <= address < r.end)
            for piece, data in _pieces(_read(memory, address, size)):
                _write_all(file, data, offset + piece)
            done += size
            report(Progress(task, done, total))
    report(Progress(task, total, total, finished=True))


def _chunks(block: Range) -> Iterator[tuple[int, int]]:
    for address in range(block.start, block.end, CHUNK):
        yield address, min(CHUNK, block.end - address)


def _read(memory: PhysicalMemory, address: int, size: int) -> bytes:
    try:
        return memory.read(address, size)
    except BadAddress:  # a dump, read again, may leave out pages
        return bytes(size)


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what is not only zeros: where it begins, and neighbours in one."""
    start = None
    for at in range(0, len(data), PIECE):
        empty = not data[at : at + PIECE].strip(b"\0")
        if empty and start is not None:
            yield start, data[start:at]
            start = None
        elif not empty and start is None:
            start = at
    if start is not None:
        yield start, data[start:]


def _write_all(file: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def _aligned(offset: int) -> int:
    return (offset + PAGE - 1) // PAGE * PAGE
