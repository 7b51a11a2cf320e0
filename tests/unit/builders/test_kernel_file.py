import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.builders.kernel_file import KernelFile, NoKernel, bzimage_release, recognise

VERSION = b"6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP"


def bzimage(version: bytes, at: int = 0x3000) -> bytes:
    data = bytearray(0x5000)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x20E, at - 0x200)
    data[at : at + len(version)] = version
    return bytes(data)


def elf(machine: int, content: bytes) -> bytes:
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine)
    return header.ljust(64, b"\0") + content


def test_bzimage_tells_its_release():
    assert recognise(bzimage(VERSION)) == KernelFile("6.1.0-56-cloud-amd64")


def test_bzimage_without_version_string_has_no_release():
    assert bzimage_release(bzimage(b"", at=0x200)) == ""


def test_vmlinux_tells_its_release_by_its_banner():
    content = b"..Linux version %s..Linux version 6.12.1-x (gcc) #1"
    assert recognise(elf(62, content)) == KernelFile("6.12.1-x")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "an empty file"),
        (b"hello\n", "a text file"),
        (b"#!/bin/sh\n", "a script"),
        (b"\x1f\x8b\x08", "gzip compressed data"),
        (elf(62, b"main"), "an ELF program or library, and holds no Linux banner"),
        (elf(183, b"Linux version 6.1.0 "), "an ELF file for another kind of CPU"),
        (bytes(0x38) + b"ARM\x64", "a kernel for arm64"),
        (bytes(510) + b"\x55\xaa", "a disk image"),
        (bytes(100), "neither a bzImage nor an ELF vmlinux"),
    ],
)
def test_what_is_no_kernel_is_named(data, kind):
    assert recognise(data) == NoKernel(kind)


@given(st.binary(max_size=2000))
def test_any_bytes_are_judged(data):
    assert isinstance(recognise(data), KernelFile | NoKernel)


@given(st.binary(max_size=1000), st.integers(0, 0xFFFF))
def test_any_version_offset_is_survived(tail, offset):
    data = bytearray(bzimage(VERSION))[:0x210] + tail
    struct.pack_into("<H", data, 0x20E, offset)
    release = bzimage_release(bytes(data))
    assert len(release) <= 64
    assert release.isprintable()
