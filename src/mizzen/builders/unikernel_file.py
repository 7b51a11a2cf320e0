"""What a unikernel's file tells about itself: whether QEMU can boot it.

Sources: the ELF specification; Xen's docs/misc/pvh.pandoc for the note of PVH; Solo5's
include/elf_abi.h and include/mft_abi.h for its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mizzen.machines.qemu.board import Board, board
from mizzen.model.errors import Failure

from .kernel_file import KernelFile, recognise

PT_NOTE = 4
PVH = (b"Xen", 18)
"""Name and type of the note that tells where PVH enters."""

SOLO5 = (b"Solo5", 0x31494241)
"""Name and type of the note that tells which of Solo5's targets it is made for."""

MANIFEST = (b"Solo5", 0x3154464D)
"""Name and type of the note that tells which devices it wants."""

MANIFEST_ENTRIES = 12
MANIFEST_ENTRY = 104
"""Where the devices begin in that note, and bytes of each."""

DISK, NETWORK = 1, 2

TARGETS = ("hvt", "spt", "virtio", "muen", "genode", "xen")
"""Solo5's targets in the order of their numbers, from 1 on."""

BOOTED = "virtio"
"""The one that QEMU boots; others have a program of their own that runs them."""

Note = tuple[bytes, int, bytes]
"""Name, type and content."""


def check(data: bytes, what: str) -> None:
    """Raise Failure if a file is no unikernel that can be booted here.

    data: its whole content. what: the beginning of the failure's line.
    """
    if data[:4] != b"\x7fELF":
        found = recognise(data)
        kind = "a Linux kernel" if isinstance(found, KernelFile) else found.kind
        raise Failure(what, f"it is {kind}", "name a unikernel: an ELF file for x86-64")
    if data[4:6] != b"\x02\x01" or data[18:20] != b"\x3e\x00":
        raise Failure(what, "it is an ELF file for another kind of CPU", "build it for x86-64")
    if isinstance(found := recognise(data), KernelFile):
        raise Failure(what, f"it is Linux {found.release}", "build an image for it to run")
    told = {(name, kind): content for name, kind, content in notes(data)}
    if SOLO5 in told:
        _check_target(told[SOLO5], what)
    if MANIFEST in told:
        _check_devices(told[MANIFEST], what)
    if PVH not in told and board(data) is not Board.PC:
        raise Failure(
            what,
            "it has neither PVH's note nor Multiboot's header, so QEMU cannot boot it",
            "link it with one of them",
        )


def check_target(target: str, what: str) -> None:
    """Raise Failure if what is built for a target of Solo5's or MirageOS's does not boot here."""
    if target in {*TARGETS, "qubes", "unix", "macosx"} - {BOOTED}:
        raise Failure(
            what, f"what is made for {target} does not boot on QEMU", f"build it for {BOOTED}"
        )


def _check_target(content: bytes, what: str) -> None:
    (number,) = struct.unpack_from("<I", content.ljust(4, b"\0"))
    if 1 <= number <= len(TARGETS):
        check_target(TARGETS[number - 1], what)


def _check_devices(content: bytes, what: str) -> None:
    """Solo5 gives up if a device is there that it does not want, and if one is missing."""
    version, count = struct.unpack_from("<II", content.ljust(MANIFEST_ENTRIES, b"\0"), 4)
    if version != 1:
        return
    kinds = []
    for number in range(count):
        entry = content[MANIFEST_ENTRIES + number * MANIFEST_ENTRY :][:MANIFEST_ENTRY]
        if len(entry) < MANIFEST_ENTRY:
            break
        kinds.append(struct.unpack_from("<I", entry, 68)[0])
    networks, disks = kinds.count(NETWORK), kinds.count(DISK)
    if (networks, disks) != (1, 0):
        raise Failure(
            what,
            f"it wants {networks} network devices and {disks} disks, not one and none",
            "build it for one network and no disk",
        )


def notes(data: bytes) -> Iterator[Note]:
    """Yield the notes of a 64-bit ELF file, as far as they are whole."""
    if len(data) < 64:
        return
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        at = table + number * size
        header = data[at : at + 56]
        if len(header) < 56:
            return
        kind, _, begin, _, _, length, _, alignment = struct.unpack("<IIQQQQQQ", header)
        if kind == PT_NOTE:
            yield from _notes(data[begin : begin + length], 8 if alignment == 8 else 4)


def _notes(data: bytes, alignment: int) -> Iterator[Note]:
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<3I", data, at)
        begin = _aligned(at + 12 + name_size, alignment)
        if begin + size > len(data):
            return
        yield data[at + 12 : at + 12 + name_size].rstrip(b"\0"), kind, data[begin : begin + size]
        at = _aligned(begin + size, alignment)


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
