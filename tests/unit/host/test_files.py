"""Files appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from mizzen.host.files import appearing


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new"
    path.write_text("old")
    with appearing(path, 0o600) as file:
        os.write(file, b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "new"
    with pytest.raises(ValueError, match="half"), appearing(path) as file:
        os.write(file, b"half")
        raise ValueError("half")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_moves_meanwhile_is_still_the_one(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with appearing(folder / "new") as file:
        os.write(file, b"text")
        folder.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "new").read_text() == "text"
