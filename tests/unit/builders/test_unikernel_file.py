from __future__ import annotations

import contextlib
import struct

import hello
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.builders.unikernel_file import check, notes
from mizzen.model.errors import Failure

XEN = (b"Xen\0", 18, bytes(8))
MULTIBOOT = struct.pack("<3I", 0x1BADB002, 3, -(0x1BADB002 + 3) % (1 << 32))


def solo5(target: int) -> tuple[bytes, int, bytes]:
    return b"Solo5\0", 0x31494241, struct.pack("<4I", target, 1, 0, 0)


def manifest(*kinds: int, version: int = 1) -> tuple[bytes, int, bytes]:
    entries = b"".join(bytes(68) + struct.pack("<I", kind) + bytes(32) for kind in kinds)
    return b"Solo5\0", 0x3154464D, struct.pack("<3I", 0, version, len(kinds)) + entries


def elf(*given: tuple[bytes, int, bytes], machine: int = 62, rest: bytes = b"") -> bytes:
    """Make an ELF file of one segment with notes."""
    table = b""
    for name, kind, content in given:
        table += struct.pack("<3I", len(name), len(content), kind)
        table += name.ljust(-(-len(name) // 4) * 4, b"\0") + content
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQ", 2, machine, 1, 0, 64, 0)
    header += struct.pack("<IHHHHHH", 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(table), len(table), 4)
    return header + segment + table + rest


def test_own_unikernel_is_one(tmp_path):
    data = hello.build(tmp_path / "hello").read_bytes()
    check(data, "cannot boot it")
    assert [(name, kind) for name, kind, _ in notes(data)] == [(b"Xen", 18)]


@pytest.mark.parametrize(
    "data",
    [
        elf(XEN),
        elf(rest=MULTIBOOT),
        elf(solo5(3), rest=MULTIBOOT),
        elf(manifest(1 << 30, 2), solo5(3), rest=MULTIBOOT),
        elf(manifest(1, version=2), solo5(3), rest=MULTIBOOT),  # of a later Solo5
    ],
)
def test_what_qemu_boots_passes(data):
    check(data, "cannot boot it")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is an empty file"),
        (b"#!/bin/sh", "it is a script"),
        (bytes(0x1FE) + b"\x55\xaa\0\0HdrS" + bytes(20), "it is a Linux kernel"),
        (elf(XEN, rest=b"Linux version 6.1.0-x (gcc)"), "it is Linux 6.1.0-x"),
        (elf(XEN, machine=183), "another kind of CPU"),
        (elf(), "neither PVH's note nor Multiboot's header"),
        (elf((b"Xen\0", 17, b"")), "neither PVH's note nor Multiboot's header"),
        (elf(solo5(1)), "what is made for hvt does not boot on QEMU; build it for virtio"),
        (elf(manifest(1 << 30), solo5(3)), "it wants 0 network devices and 0 disks"),
        (elf(manifest(1 << 30, 2, 2, 1), solo5(3)), "it wants 2 network devices and 1 disks"),
        (elf(XEN, solo5(6)), "what is made for xen does not boot on QEMU"),
    ],
)
def test_what_it_does_not_is_told(data, why):
    with pytest.raises(Failure, match=why):
        check(data, "cannot boot it")


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(data):
    for content in (
        data,
        elf((b"Solo5\0", 0x3154464D, data)),
        b"\x7fELF" + data,
        elf(XEN)[:64] + data,
    ):
        with contextlib.suppress(Failure):
            check(content, "cannot boot it")
