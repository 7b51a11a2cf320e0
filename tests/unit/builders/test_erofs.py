"""Files out of real file systems, made as images' are."""

import asyncio
import os
import random
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.builders import rootfs
from mizzen.builders.erofs import Erofs, Missing

SIZES = (0, 1, 100, 4095, 4096, 4097, 8192, 12345, (3 << 20) + 7)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A file system with files of many sizes, links good and bad, and a large folder."""
    place = tmp_path_factory.mktemp("erofs")
    root = place / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "many").mkdir()
    for number in range(700):
        (root / f"many/file-with-a-rather-long-name-{number}").write_text(str(number))
    for size in SIZES:
        (root / f"usr/lib/{size}").write_bytes(random.Random(size).randbytes(size))
    (root / "usr/absolute").symlink_to("/lib/100")
    (root / "usr/relative").symlink_to("../usr/./lib/100")
    (root / "usr/above").symlink_to("../../../../../lib/100")
    (root / "usr/outside").symlink_to("/etc/passwd")
    (root / "loop").symlink_to("loop")
    (root / "usr/lib/100").chmod(0o4755)
    os.setxattr(root / "usr/lib/4097", "user.test", b"x" * 100)
    os.mkfifo(root / "fifo")
    file = place / "root.erofs"
    asyncio.run(rootfs.build(root, file, inside=(), what="cannot make it"))
    with file.open("rb") as opened:
        yield Erofs(opened)


def content(system, path):
    return b"".join(system.content(system.find(path)))


@pytest.mark.parametrize("size", SIZES)
def test_files_of_all_sizes_are_read_whole(system, size):
    assert content(system, f"/usr/lib/{size}") == random.Random(size).randbytes(size)


@pytest.mark.parametrize("name", ["absolute", "relative", "above"])
def test_links_are_followed_inside(system, name):
    assert content(system, f"/usr/{name}") == random.Random(100).randbytes(100)
    assert content(system, f"//usr/../lib/../{name}") == random.Random(100).randbytes(100)


def test_every_file_of_a_large_folder_is_found(system):
    for number in range(700):
        path = f"/many/file-with-a-rather-long-name-{number}"
        assert content(system, path) == str(number).encode()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/usr/outside", "nothing is called 'etc'"),
        ("/usr/nothing", "nothing is called 'nothing'"),
        ("/usr/lib/100/x", "what should hold 'x' is no folder"),
        ("/loop", "too many symbolic links"),
        ("/usr", "is a folder"),
        ("/", "is a folder"),
        ("/fifo", "is no regular file"),
    ],
)
def test_what_is_no_file_is_told(system, path, why):
    with pytest.raises(Missing, match=why):
        system.find(path)


def test_a_file_that_is_no_file_system_is_refused(tmp_path):
    file = tmp_path / "file"
    for text in (b"", b"x" * 5000):
        file.write_bytes(text)
        with file.open("rb") as opened, pytest.raises(Missing, match="no erofs"):
            Erofs(opened)


@given(changes=st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=16)), max_size=8))
def test_a_damaged_file_system_is_told(tmp_path_factory, changes):
    place = tmp_path_factory.getbasetemp() / "damaged"
    whole = place / "whole.erofs"
    if not whole.exists():
        (place / "root/a").mkdir(parents=True)
        (place / "root/a/b").write_text("x" * 5000)
        (place / "root/link").symlink_to("a/b")
        subprocess.run([*rootfs.arguments(place / "root", whole)], check=True)
    data = bytearray(whole.read_bytes())
    for offset, replacement in changes:
        begin = offset % len(data)
        data[begin : begin + len(replacement)] = replacement
    (place / "changed").write_bytes(data)
    with (place / "changed").open("rb") as opened:
        try:
            system = Erofs(opened)
            inode = system.find("/link")
            assert stat.S_ISREG(inode.mode)
            for _ in system.content(inode):
                pass
        except Missing:
            pass
