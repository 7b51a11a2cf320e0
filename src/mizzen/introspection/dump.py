"""A dump file as a guest's RAM: an ELF core as mizzen coredump, QEMU and kdump write it.

Its PT_LOAD segments tell by p_paddr which part of RAM they hold. Several may hold the same, as the
kernel's image has a segment of its own besides; then the first counts.

Source: elf(5); Documentation/admin-guide/kdump/vmcoreinfo.rst.
"""

from __future__ import annotations

import errno
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.files import explained
from mizzen.model.errors import Failure

from .memory.backing import extents
from .memory.physical import BadAddress, Range

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
CORE, X86_64, LOAD = 4, 62, 1
MANY = 0xFFFF
"""PN_XNUM: the number of segments is in sh_info of the first section."""
SEGMENTS_MAX = 1 << 20
ADDRESS_MAX = 1 << 52
HOLE_END = 4 << 30
OTHERS = (
    (b"KDUMP   ", "a compressed kdump", "write an ELF one: makedumpfile -E"),
    (b"DISKDUMP", "a compressed kdump", "write an ELF one: makedumpfile -E"),
    (b"makedumpfile", "a flattened kdump", "put it together: makedumpfile -R"),
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of RAM in the file. offset: where it begins there."""

    range: Range
    offset: int


class DumpFile:
    """A dump as ``memory.ram.Source``; nothing can be written.

    By offset RAM is in one piece, as a hypervisor maps it: what lies above 4 GiB follows what lies
    below the hole for devices. low: where that hole begins.
    """

    def __init__(self, path: Path) -> None:
        """Open a dump and read its headers. Raises Failure if it is none."""
        what = f"cannot read {path}"
        with explained(what):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._length = os.fstat(self._file).st_size
                self._segments = segments(what, self._file, self._length)
            except BaseException:
                os.close(self._file)
                raise
        self._starts = [segment.range.start for segment in self._segments]
        self.low = max((s.range.end for s in self._segments if s.range.start < HOLE_END), default=0)
        top = self._segments[-1].range.end
        self.size = self.low + max(0, top - HOLE_END)

    def read(self, offset: int, size: int) -> bytes:
        """See ``Source``. Raises BadAddress for what the dump leaves out."""
        parts = []
        address = self._physical(offset)
        while size > 0:
            number = bisect_right(self._starts, address) - 1
            segment = self._segments[max(number, 0)]
            length = min(size, segment.range.end - address)
            if number < 0 or length <= 0:
                raise BadAddress(f"{address:#x}+{size:#x} is not in the dump")
            place = segment.offset + address - segment.range.start
            part = os.pread(self._file, length, place)
            if not part:
                raise BadAddress(f"{address:#x}+{size:#x} is not in the dump any more")
            parts.append(part)
            size -= len(part)
            offset += len(part)
            address = self._physical(offset)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:  # noqa: ARG002 - a Source's shape
        """Refuse: see ``Source``."""
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    def blocks(self) -> Iterator[Range]:
        """See ``Source``: holes of the file are left out."""
        for segment in self._segments:
            start, end = segment.offset, segment.offset + segment.range.size
            for block in extents(self._file, start, end):
                address = segment.range.start + block.start - segment.offset
                yield Range(self._offset(address), block.size)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def _physical(self, offset: int) -> int:
        return offset if offset < self.low else offset - self.low + HOLE_END

    def _offset(self, address: int) -> int:
        return address if address < HOLE_END else address - HOLE_END + self.low


def segments(what: str, file: int, length: int) -> list[Segment]:
    """Read a dump's segments, by address, without overlap. Raises Failure if it is no dump.

    what: for the failure. length: of the file; what would lie behind its end is left out.
    """
    header = os.pread(file, HEADER.size, 0)
    fix = "name an ELF core, as mizzen coredump or QEMU's dump-guest-memory writes it"
    for magic, kind, other in OTHERS:
        if header.startswith(magic):
            raise Failure(what, f"it is {kind}", other)
    if len(header) < HEADER.size or header[:6] != b"\x7fELF\x02\x01":
        raise Failure(what, "it is no 64-bit ELF file", fix)
    _, kind, machine, _, _, table, sections, _, _, entry, count, *_ = HEADER.unpack(header)
    if kind != CORE or machine != X86_64 or entry != PROGRAM_HEADER.size:
        raise Failure(what, "it is no core of an x86-64 machine", fix)
    if count == MANY and sections <= length:
        section = os.pread(file, SECTION_HEADER.size, sections).ljust(SECTION_HEADER.size, b"\0")
        count = SECTION_HEADER.unpack(section)[7]
    if count > SEGMENTS_MAX:
        raise Failure(what, f"it claims {count} segments", fix)
    if table > length:
        raise Failure(what, "it ends before its program headers", fix)
    found = _apart(_loads(os.pread(file, count * entry, table), length))
    if not found:
        raise Failure(what, "it holds no memory by physical address: it is no machine's dump", fix)
    if sum(segment.range.size for segment in found) > length:  # reading it would never end
        raise Failure(what, "it claims to hold more memory than it has bytes", fix)
    return found


def _loads(headers: bytes, length: int) -> Iterator[Segment]:
    usable = len(headers) // PROGRAM_HEADER.size * PROGRAM_HEADER.size
    for kind, _, offset, _, physical, size, _, _ in PROGRAM_HEADER.iter_unpack(headers[:usable]):
        size = min(size, length - offset)  # noqa: PLW2901 - a dump may have been cut off
        if kind == LOAD and size > 0 and physical + size <= ADDRESS_MAX:
            yield Segment(Range(physical, size), offset)


def _apart(loads: Iterator[Segment]) -> list[Segment]:
    found: list[Segment] = []
    end = 0
    for segment in sorted(loads, key=lambda one: (one.range.start, -one.range.size)):
        known = max(0, end - segment.range.start)  # bytes that an earlier one holds already
        if known < segment.range.size:
            rest = Range(segment.range.start + known, segment.range.size - known)
            found.append(Segment(rest, segment.offset + known))
            end = rest.end
    return found
