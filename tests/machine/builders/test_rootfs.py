import asyncio
import os
import stat
import struct
import subprocess

import pytest

from mizzen.builders import rootfs

NET_BIND_SERVICE = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)


def tree(folder, *, backwards):
    """Make a folder of all kinds of files, in one order or the other."""
    folder.mkdir(0o755)
    numbers = list(range(200))
    for number in reversed(numbers) if backwards else numbers:
        file = folder / f"d{number % 7}" / f"f{number}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes([number]) * (number * 97 % 9000))
        file.chmod(0o755 if number % 3 else 0o640)
        os.chown(file, number % 5, number % 11)
        if number % 17 == 0:
            os.setxattr(file, f"user.k{number % 3}", b"v" * (number % 40 + 1))
        os.utime(file, (number + backwards, number))
    links = ["hard", "d3/hard"]
    for link in reversed(links) if backwards else links:
        (folder / link).hardlink_to(folder / "d0/f7")
    (folder / "soft").symlink_to("../away")
    os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
    os.mkfifo(folder / "pipe")
    os.setxattr(folder / "d1/f1", "security.capability", NET_BIND_SERVICE)
    (folder / "d1").chmod(0o1777)
    return folder


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Two file systems of equal folders that were filled in different orders."""
    place = tmp_path_factory.mktemp("trees")
    made = []
    for name, backwards in (("one", False), ("two", True)):
        folder = tree(place / name, backwards=backwards)
        asyncio.run(rootfs.build(folder, place / f"{name}.erofs", inside=(), what="cannot build"))
        made.append(place / f"{name}.erofs")
    return made


def dump(image, path):
    shown = subprocess.run(
        ["dump.erofs", f"--path={path}", str(image)], capture_output=True, text=True, check=True
    )
    return shown.stdout


def test_equal_folders_give_equal_bits(twice):
    one, two = twice
    assert one.read_bytes() == two.read_bytes()


def test_the_file_system_is_sound(twice):
    subprocess.run(["fsck.erofs", str(twice[0])], check=True, capture_output=True)


@pytest.fixture(scope="module")
def unpacked(twice, tmp_path_factory):
    out = tmp_path_factory.mktemp("unpacked") / "out"
    command = ["fsck.erofs", f"--extract={out}", str(twice[0])]
    subprocess.run(command, check=True, capture_output=True)
    return out


def test_contents_and_kinds_are_kept(unpacked):
    assert (unpacked / "d0/f7").read_bytes() == bytes([7]) * 679
    assert (unpacked / "soft").readlink().as_posix() == "../away"
    assert (unpacked / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((unpacked / "pipe").stat().st_mode)


def test_owners_and_modes_are_kept(unpacked):
    status = (unpacked / "d1/f8").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (3, 8, 0o755)
    assert stat.S_IMODE((unpacked / "d1").stat().st_mode) == 0o1777


def test_hard_links_and_attributes_are_kept(twice):
    image = twice[0]
    assert "Links: 3" in dump(image, "/hard")
    assert "Xattr size: 0" not in dump(image, "/d1/f1")
    assert NET_BIND_SERVICE in image.read_bytes()
