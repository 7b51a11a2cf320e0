"""What is packed here comes out there as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mizzen.sessions.files.extract import Extractor
from mizzen.sessions.files.pack import Packer, size_of


def copied(source: Path, place: Path) -> Packer:
    packer = Packer(source)
    with Extractor(place, packer.name) as extractor:
        for piece in packer.pieces():
            extractor.feed(piece)
        assert extractor.ended
        assert (extractor.files, extractor.bytes) == (packer.files, packer.bytes)
    return packer


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in [root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        data = b""
        if path.is_symlink():
            data = os.fsencode(path.readlink())
        elif path.is_file():
            data = path.read_bytes()
        found[str(path.relative_to(root))] = status.st_mode, status.st_mtime_ns, data
    return found


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "large").write_bytes(os.urandom(200_000))
    (root / "empty").touch()
    (root / "TRAILER!!!").write_bytes(b"no end")
    (root / os.fsdecode(b"not \xff utf-8")).write_bytes(b"x")
    (root / "l").symlink_to("d/large")
    (root / "broken").symlink_to("nowhere")
    (root / "d").chmod(0o711)
    return root


def test_a_tree_arrives_as_it_was(source, tmp_path):
    copied(source, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(source)


def test_a_file_arrives_under_its_own_name(source, tmp_path):
    copied(source / "d/large", tmp_path)
    assert (tmp_path / "large").read_bytes() == (source / "d/large").read_bytes()


def test_a_link_that_is_named_is_followed(source, tmp_path):
    copied(source / "l", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (source / "d/large").read_bytes()


def test_holes_are_not_filled(tmp_path):
    with (tmp_path / "f").open("wb") as file:
        file.seek(5 << 30)
        file.write(b"end")
        file.truncate(6 << 30)
    packer = copied(tmp_path / "f", tmp_path / "copy")
    assert packer.bytes < 1 << 20
    assert (tmp_path / "copy").stat().st_size == 6 << 30


def test_what_is_no_file_is_left_out_and_told(source, tmp_path):
    os.mkfifo(source / "fifo")
    packer = copied(source, tmp_path / "copy")
    assert packer.left_out == [f"{source}/fifo: neither file, folder nor link"]
    assert not (tmp_path / "copy/fifo").exists()


def test_what_is_not_there_cannot_be_packed(tmp_path):
    with pytest.raises(FileNotFoundError):
        Packer(tmp_path / "nowhere")


def test_the_size_is_that_of_the_files(source):
    assert size_of(source) == 200_000 + 6 + 1
    assert size_of(source / "d/large") == 200_000
