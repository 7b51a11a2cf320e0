"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from mizzen.host.files import appearing


@pytest.fixture(params=["nameless", "named"])
def _either(request, monkeypatch):
    """A file system that has files without a name, and one that does not."""
    if request.param == "named":
        real = os.open

        def refuses(path, flags, *arguments, **more):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *arguments, **more)

        monkeypatch.setattr(os, "open", refuses)


either = pytest.mark.usefixtures("_either")


@either
def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new"
    path.write_text("old")
    with appearing(path, 0o600) as file:
        os.write(file, b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert list(tmp_path.iterdir()) == [path]


@either
def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "new"
    with pytest.raises(ValueError, match="half"), appearing(path) as file:
        os.write(file, b"half")
        raise ValueError("half")
    assert list(tmp_path.iterdir()) == []


@either
def test_a_folder_that_moves_meanwhile_is_still_the_one(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with appearing(folder / "new") as file:
        os.write(file, b"text")
        folder.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "new").read_text() == "text"


@either
def test_a_name_that_is_taken_meanwhile_leaves_nothing(tmp_path):
    with pytest.raises(IsADirectoryError), appearing(tmp_path / "new") as file:
        os.write(file, b"text")
        (tmp_path / "new").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_process_that_is_killed_leaves_nothing(tmp_path):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with appearing(tmp_path / "new") as file:
            os.write(file, b"half")
            os.write(writer, b"!")
            signal.pause()
    os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert list(tmp_path.iterdir()) == []
    os.close(reader)
    os.close(writer)
