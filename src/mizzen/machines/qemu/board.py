"""Which of QEMU's machines a kernel is made for."""

from __future__ import annotations

import struct
from enum import StrEnum

MULTIBOOT = 0x1BADB002
MULTIBOOT_SEARCH = 8192
"""Bytes of a file in which Multiboot's header lies, on a multiple of 4."""


class Board(StrEnum):
    """What a kernel finds around its CPU; the value is QEMU's name for it.

    Linux boots on either and is given the first, which has virtio over MMIO and little else. So are
    unikernels that boot by PVH; those that boot by Multiboot, as Solo5's do, look for PCI.
    """

    MICROVM = "microvm"
    PC = "pc"


def board(begin: bytes) -> Board:
    """Return the board for a kernel. begin: its file's first MULTIBOOT_SEARCH bytes, or more."""
    end = min(len(begin), MULTIBOOT_SEARCH)
    for offset in range(0, end - 11, 4):
        magic, flags, checksum = struct.unpack_from("<3I", begin, offset)
        if magic == MULTIBOOT and (magic + flags + checksum) % (1 << 32) == 0:
            return Board.PC
    return Board.MICROVM
