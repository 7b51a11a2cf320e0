import asyncio
import stat

import pytest

from mizzen.builders import initramfs
from mizzen.host import cpio
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.image import Kernel


def test_modules_are_numbered_and_listed_in_load_order():
    made = {entry.name: entry for entry in initramfs.entries(b"I", [("b", b"B"), ("a", b"A")])}
    assert made["mizzen/modules"].data == b"module=/modules/00-b.ko\0module=/modules/01-a.ko\0"
    assert made["modules/01-a.ko"].data == b"A"


def test_init_is_executable_and_the_console_is_a_device():
    made = {entry.name: entry for entry in initramfs.entries(b"I", [])}
    assert made["init"].data == b"I"
    assert made["init"].mode == stat.S_IFREG | 0o755
    assert stat.S_ISCHR(made["dev/console"].mode)
    assert made["dev/console"].device == (5, 1)


def test_it_is_made_once_and_depends_on_init_and_kernel(tmp_path):
    folders = Folders(tmp_path / "state", tmp_path / "run")
    init = tmp_path / "init"
    init.write_bytes(b"one")
    kernel = Kernel(tmp_path / "vmlinuz", "6.1", None, "00")

    def build():
        return asyncio.run(initramfs.build(folders, kernel, init))

    first = build()
    made = first.stat().st_mtime_ns
    assert build() == first
    assert first.stat().st_mtime_ns == made
    assert first.read_bytes() == b"".join(cpio.archive(initramfs.entries(b"one", [])))
    init.write_bytes(b"two")
    assert build() != first


def test_a_missing_init_is_told(tmp_path):
    folders = Folders(tmp_path / "state", tmp_path / "run")
    kernel = Kernel(tmp_path / "vmlinuz", "6.1", None, "00")
    with pytest.raises(Failure, match="is missing"):
        asyncio.run(initramfs.build(folders, kernel, tmp_path / "none"))
