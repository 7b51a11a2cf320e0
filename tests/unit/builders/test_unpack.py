"""Archives are unpacked as they are, and nothing gets outside the folder."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.builders import unpack
from mizzen.builders.unpack import Rejected

Member = tuple[str, bytes, str | bytes]
FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def tar(*members: Member, mode: int = 0o755, way: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=way) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, mode, 1234
            if isinstance(content, str):
                info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def into(folder: Path, archive: bytes) -> list[int]:
    said: list[int] = []
    folder.mkdir(parents=True)
    unpack.unpack(io.BytesIO(archive), folder, said.append)
    return said


@pytest.mark.parametrize("way", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_root_file_system_is_unpacked(tmp_path: Path, way: str) -> None:
    members: list[Member] = [
        ("./", FOLDER, ""),
        ("./bin", LINK, "usr/bin"),
        ("./usr/bin/tool", FILE, b"tool"),
        ("./usr/bin/same", HARD, "./usr/bin/tool"),
        ("/etc/absolute", LINK, "/etc/passwd"),
        ("./usr/bin", FOLDER, ""),
        ("./dev/null", tarfile.CHRTYPE, ""),
        ("./pipe", tarfile.FIFOTYPE, ""),
    ]
    root = tmp_path / "root"
    into(root, tar(*members, mode=0o4755, way=way))
    tool = root / "usr/bin/tool"
    assert tool.read_bytes() == b"tool"
    assert stat.S_IMODE(tool.stat().st_mode) == 0o4755
    assert tool.stat().st_mtime == (root / "usr/bin").stat().st_mtime == 1234
    assert (root / "usr/bin/same").samefile(tool)
    assert (root / "bin").readlink() == Path("usr/bin")
    assert (root / "etc/absolute").readlink() == Path("/etc/passwd")
    assert not os.path.lexists(root / "dev/null")
    assert not os.path.lexists(root / "pipe")


def test_folders_that_may_not_be_written_are_filled_first(tmp_path: Path) -> None:
    into(tmp_path / "root", tar(("a", FOLDER, ""), ("a/b", FILE, b"x"), mode=0o555))
    assert (tmp_path / "root/a/b").read_bytes() == b"x"


def test_a_later_member_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    into(tmp_path / "root", tar(("a", LINK, "/etc/passwd"), ("a", FILE, b"new")))
    assert (tmp_path / "root/a").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("../evil", FILE, b"x")], "leads outside"),
        ([("a/../../evil", FILE, b"x")], "leads outside"),
        ([("up", LINK, ".."), ("up/evil", FILE, b"x")], "below what is no folder"),
        ([("up", LINK, ".."), ("up/evil/", FOLDER, "")], "below what is no folder"),
        ([("etc", LINK, "/etc"), ("pw", HARD, "etc/passwd")], "below what is no folder"),
        ([("pw", HARD, "../secret")], "leads outside"),
        ([("a/" * 201, FOLDER, "")], "too deep"),
        ([("pw", HARD, "/")], "link to nothing"),
        ([("pw", HARD, "none/there")], "link to nothing"),
        ([("a", FILE, b"x"), ("a/b", FILE, b"x")], "below what is no folder"),
        ([("a", FOLDER, ""), ("a", FILE, b"x")], "a folder and something else"),
    ],
)
def test_what_leads_elsewhere_is_rejected(tmp_path: Path, members: list[Member], why: str) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(Rejected, match=why):
        into(tmp_path / "root", tar(*members))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "secret"]


def test_too_much_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "COUNT_MAX", 3)
    with pytest.raises(Rejected, match="more than 3 files"):
        into(tmp_path / "a", tar(*((str(n), FILE, b"") for n in range(4))))
    with pytest.raises(Rejected, match="more than 3 files"):
        into(tmp_path / "b", tar(("1/2/3/4/5", FOLDER, "")))
    monkeypatch.setattr(unpack, "BYTES_MAX", 3 << 30)
    huge = bytearray(tar(("a", FILE, b"")))
    huge[124:136] = b"77777777777\0"
    huge[148:156] = b"%06o\0 " % (sum(huge[:148]) + sum(huge[156:512]) + 8 * 32)
    with pytest.raises(Rejected, match="more than 3 GiB"):
        into(tmp_path / "c", bytes(huge))


@pytest.mark.parametrize("content", [b"", b"no archive" * 100, b"\x1f\x8b" + bytes(600)])
def test_what_is_no_archive_is_rejected(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Rejected, match="no whole tar archive"):
        into(tmp_path / "root", content)


def test_half_an_archive_is_rejected(tmp_path: Path) -> None:
    whole = tar(("a", FILE, os.urandom(1 << 20)), way="w:gz")
    with pytest.raises(Rejected, match="no whole tar archive"):
        into(tmp_path / "root", whole[: len(whole) // 2])


NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "up", "abs"]), min_size=1, max_size=4
).map("/".join)
MEMBERS = st.lists(
    st.one_of(
        st.tuples(NAMES, st.just(FILE), st.just(b"content")),
        st.tuples(NAMES, st.just(FOLDER), st.just("")),
        st.tuples(NAMES, st.sampled_from([LINK, HARD]), NAMES | st.just("/tmp")),
    ),
    max_size=8,
)


@given(MEMBERS)
@settings(max_examples=300)
def test_nothing_gets_outside(members: list[Member]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "x/root"
        with contextlib.suppress(Rejected, OSError):
            into(root, tar(*members))
        assert [path.name for path in Path(place).iterdir()] == ["x"]
        assert [path.name for path in Path(place, "x").iterdir()] == ["root"]


@given(st.integers(0, 5000), st.integers(0, 255))
@settings(max_examples=200)
def test_a_damaged_archive_is_rejected_or_unpacked(place: int, value: int) -> None:
    archive = bytearray(tar(("a", FOLDER, ""), ("a/b", FILE, b"x" * 600), ("c", HARD, "a/b")))
    archive[place % len(archive)] = value
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Rejected, OSError):
        into(Path(folder) / "root", bytes(archive))
