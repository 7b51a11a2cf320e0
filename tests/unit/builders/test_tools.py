"""Tools are found by what they are, made once, and not removed while in use."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from mizzen.builders import toolmaking, tools
from mizzen.builders.tools import Tools
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system of three files of 10,001 bytes in all."""
    path = tmp_path / "root"
    (path / "bin").mkdir(parents=True)
    (path / "bin/sh").write_bytes(bytes(10_000))
    (path / "bin/one").write_bytes(b"1")
    (path / "bin/none").touch()
    (path / "link").symlink_to("bin/sh")
    return path


@pytest.fixture
def archive(tmp_path: Path, root: Path) -> Path:
    path = tmp_path / "tools.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        made.add(root, ".")
    return path


def gather(named: str | Path, folders: Folders, seen: list[str] | None = None) -> Tools:
    def report(progress: Progress) -> None:
        if seen is not None and progress.task not in seen:
            seen.append(progress.task)

    return asyncio.run(toolmaking.gather(str(named), folders, report))


def test_a_folder_is_used_where_it_is(root: Path, folders: Folders) -> None:
    found = gather(root, folders)
    assert (found.path, found.size, found.count) == (root, 4 * 4096, 5)
    assert not folders.state.exists()


def test_what_is_not_there_is_told(tmp_path: Path, folders: Folders) -> None:
    with pytest.raises(Failure, match="there is no such folder or file"):
        gather(tmp_path / "nothing", folders)


def test_an_archive_is_unpacked_once(archive: Path, root: Path, folders: Folders) -> None:
    seen: list[str] = []
    found = gather(archive, folders, seen)
    assert (found.name, found.size, found.count) == (str(archive), 4 * 4096, 5)
    assert (found.path / "bin/sh").read_bytes() == bytes(10_000)
    assert seen == ["reading tools.tar.gz", "unpacking tools.tar.gz"]
    assert gather(archive, folders, seen) == found
    assert len(seen) == 2
    copy = shutil.copy(archive, archive.with_name("copy"))
    assert gather(copy, folders, seen).path == found.path
    assert seen[2:] == ["reading copy"]


def test_an_archive_that_changed_is_unpacked_anew(
    archive: Path, root: Path, folders: Folders
) -> None:
    before = gather(archive, folders)
    with tarfile.open(archive, "w:xz") as made:
        made.add(root / "bin", "bin")
    found = gather(archive, folders)
    assert found.path != before.path
    assert found.count == 4


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_an_archive_may_be_compressed_by_zstd(tmp_path: Path, root: Path, folders: Folders) -> None:
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "a.tar", "."], check=True)
    subprocess.run(["zstd", "-q", tmp_path / "a.tar"], check=True)
    assert gather(tmp_path / "a.tar.zst", folders).count == 5


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, folders: Folders) -> None:
    (tmp_path / "file").write_text("no archive")
    with pytest.raises(Failure, match=r"no whole tar archive.*; name a folder, an OCI image"):
        gather(tmp_path / "file", folders)
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    with pytest.raises(Failure, match="it holds no files"):
        gather(tmp_path / "empty.tar", folders)
    assert [path.name for path in (folders.cache / "tools").iterdir()] == [".lock"]


def test_what_is_unpacked_is_closed_to_others(archive: Path, folders: Folders) -> None:
    found = gather(archive, folders)
    assert stat.S_IMODE(found.path.parent.stat().st_mode) == 0o700


def test_without_default_tools_there_are_none(folders: Folders) -> None:
    assert tools.default(folders) is None
    assert tools.everything(folders) == []


def test_tools_are_listed_and_removed(archive: Path, folders: Folders) -> None:
    found = gather(archive, folders)
    assert found.made
    assert tools.everything(folders) == [found]
    assert asyncio.run(tools.remove(folders, str(archive))) == [found]
    assert tools.everything(folders) == []
    assert not found.path.exists()
    with pytest.raises(Failure, match="there are none"):
        asyncio.run(tools.remove(folders, str(archive)))
    assert gather(archive, folders).path == found.path


def test_tools_in_use_are_not_removed(archive: Path, folders: Folders) -> None:
    found = gather(archive, folders)
    with tools.held(found.path) as descriptor, tools.held(found.path):
        assert os.listdir(descriptor)  # noqa: PTH208
        with pytest.raises(Failure, match="a session uses them"):
            asyncio.run(tools.remove(folders, found.name))
        assert tools.everything(folders) == [found]
    asyncio.run(tools.remove(folders, found.name))
    with pytest.raises(Failure, match="No such file"), tools.held(found.path):
        pass


def test_a_record_that_is_damaged_is_written_anew(archive: Path, folders: Folders) -> None:
    found = gather(archive, folders)
    found.path.with_name(f"{found.path.name}.json").write_text("{")
    assert tools.everything(folders) == []
    again = gather(archive, folders)
    assert (again.path, again.size, again.count) == (found.path, found.size, found.count)


def test_a_folder_with_too_many_files_is_refused(
    root: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "COUNT_MAX", 3)
    with pytest.raises(Failure, match="more than 3 files"):
        gather(root, folders)
