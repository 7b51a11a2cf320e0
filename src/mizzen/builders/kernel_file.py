"""What a kernel's file tells about itself.

Sources: Documentation/arch/x86/boot.rst for the bzImage header (offsets are from the file's
start), Documentation/arch/arm64/booting.rst, and the ELF specification.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

BANNER = re.compile(rb"Linux version (\d+\.\d+[!-~]{0,60}) ")
"""How ``linux_banner`` begins (init/version.c); every vmlinux holds it in .rodata."""

MAGICS = (
    (0, b"\x1f\x8b", "gzip compressed data"),
    (0, b"\xfd7zXZ\0", "xz compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd compressed data"),
    (0, b"070701", "a cpio archive, such as an initramfs"),
    (0, b"!<arch>\n", "a Debian package or static library"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"#!", "a script"),
    (0, b"MZ", "an EFI or Windows program"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0x38, b"ARM\x64", "a kernel for arm64"),
    (257, b"ustar", "a tar archive"),
    (510, b"\x55\xaa", "a disk image"),
)
"""Offset and bytes that give a file away, and what it is then."""


@dataclass(frozen=True, slots=True)
class KernelFile:
    """A file that is a kernel. release: as ``uname -r`` says, "" where the file hides it."""

    release: str


@dataclass(frozen=True, slots=True)
class NoKernel:
    """A file that is none. kind: what it is, as a noun phrase."""

    kind: str


def recognise(data: bytes) -> KernelFile | NoKernel:
    """Tell from a whole file's content whether an x86-64 machine can boot it as a kernel."""
    if data[0x202:0x206] == b"HdrS" and data[0x1FE:0x200] == b"\x55\xaa":
        return KernelFile(bzimage_release(data))
    if data[:4] == b"\x7fELF":
        return _recognise_elf(data)
    return NoKernel(_kind(data))


def bzimage_release(data: bytes) -> str:
    """Return the release in a bzImage's version string, "" if it has none.

    ``kernel_version`` at 0x20e points to the string, less 0x200; 0 means there is none.
    """
    (offset,) = struct.unpack_from("<H", data.ljust(0x210, b"\0"), 0x20E)
    if not offset:
        return ""
    words = data[offset + 0x200 :][:256].split(b"\0", 1)[0].split()
    if not words or not re.fullmatch(rb"[!-~]{1,64}", words[0]):
        return ""
    return words[0].decode("ascii")


def _recognise_elf(data: bytes) -> KernelFile | NoKernel:
    if len(data) < 64 or data[4:6] != b"\x02\x01":
        return NoKernel("an ELF file for another kind of CPU")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine != 62:  # EM_X86_64
        return NoKernel("an ELF file for another kind of CPU")
    banner = BANNER.search(data)
    if banner is None:
        return NoKernel("an ELF program or library, and holds no Linux banner")
    return KernelFile(banner[1].decode("ascii"))


def _kind(data: bytes) -> str:
    for offset, magic, kind in MAGICS:
        if data[offset : offset + len(magic)] == magic:
            return kind
    if all(byte in b"\t\n\r" or byte >= 32 for byte in data[:512]):
        return "a text file" if data else "an empty file"
    return "neither a bzImage nor an ELF vmlinux"
