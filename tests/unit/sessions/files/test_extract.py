"""A guest chooses names and content, but not where they go."""

from __future__ import annotations

import contextlib
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.sessions.files import archive
from mizzen.sessions.files.archive import Item, Left
from mizzen.sessions.files.extract import Extractor

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def named(name: bytes, item: Item, content: bytes = b"") -> bytes:
    """An entry with any name at all."""
    return archive._entry(name, item, content)


def entry(name: bytes, mode: int, content: bytes = b"", left: Left = Left.LAST) -> bytes:
    return named(name, Item((), mode, left, 1_700_000_000 * 10**9 + 5), content)


def extract(place: Path, *entries: bytes, name: str = "own") -> Extractor:
    with Extractor(place, name) as extractor:
        extractor.feed(b"".join(entries) + archive.trailer())
    return extractor


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_tree_comes_with_its_modes_times_and_links(tmp_path):
    extract(
        tmp_path / "new",
        entry(b".", FOLDER, left=Left.MORE),
        entry(b"a", stat.S_IFREG | 0o640, b"text"),
        entry(b"d", FOLDER, left=Left.MORE),
        entry(b"d/l", LINK, b"../../elsewhere"),
        entry(b"d", stat.S_IFDIR | 0o500),
        entry(b".", FOLDER),
    )
    new = tmp_path / "new"
    assert (new / "a").read_bytes() == b"text"
    assert (new / "a").stat().st_mode == stat.S_IFREG | 0o640
    assert (new / "a").stat().st_mtime_ns == 1_700_000_000 * 10**9 + 5
    assert (new / "d/l").readlink() == Path("../../elsewhere")
    assert (new / "d").stat().st_mode == stat.S_IFDIR | 0o500
    assert (new / "d").stat().st_mtime == 1_700_000_000


def test_what_is_copied_to_a_folder_goes_into_it_under_its_own_name(tmp_path):
    extract(tmp_path, entry(b".", FILE, b"x"), name="log")
    assert (tmp_path / "log").read_bytes() == b"x"


def test_a_file_in_parts_keeps_its_holes(tmp_path):
    part = lambda offset, left, data: archive.written(Item((), FILE, left, 0, offset), data)  # noqa: E731
    extract(
        tmp_path / "f",
        part(0, Left.MORE, b"begin"),
        part(6 << 30, Left.MORE, b"middle"),
        part(8 << 30, Left.LAST, b""),
    )
    assert (tmp_path / "f").stat().st_size == 8 << 30
    assert (tmp_path / "f").stat().st_blocks < 100
    with (tmp_path / "f").open("rb") as file:
        file.seek(6 << 30)
        assert file.read(6) == b"middle"


def test_set_user_id_does_not_come_along(tmp_path):
    extract(tmp_path / "f", entry(b".", stat.S_IFREG | 0o7755))
    assert (tmp_path / "f").stat().st_mode == stat.S_IFREG | 0o755


def test_half_a_file_does_not_stay(tmp_path):
    whole = entry(b".", FILE, b"x" * 1000)
    (tmp_path / "f").write_bytes(b"old")
    with Extractor(tmp_path / "f", "") as extractor:
        extractor.feed(whole[:-500])
        assert not extractor.ended
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_file_that_could_not_be_read_to_its_end_does_not_stay(tmp_path):
    lost = archive.written(Item((), FILE, Left.LOST, 0, 1), b"")
    extract(tmp_path / "f", entry(b".", FILE, b"x", Left.MORE), lost)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        b"/etc/x",
        b"../x",
        b"a/../../x",
        b"a//x",
        b"./x",
        b"",
        b"a/.",
        b"x" * 300,
        b"d/" * 200 + b"x",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(Failure, match="broken archive"):
        extract(tmp_path / "d", entry(b".", FOLDER, left=Left.MORE), entry(name, FILE, b"x"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["d"]


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, 0])
def test_devices_and_the_like_are_refused(tmp_path, kind):
    with pytest.raises(Failure, match="neither file"):
        extract(tmp_path / "d", entry(b".", kind | 0o666))


def test_no_link_is_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        extract(
            tmp_path / "d",
            entry(b".", FOLDER, left=Left.MORE),
            entry(b"l", LINK, bytes(outside)),
            entry(b"l/x", FILE, b"x"),
        )
    assert list(outside.iterdir()) == []


def test_a_link_that_is_there_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "outside").write_bytes(b"kept")
    (tmp_path / "f").symlink_to("outside")
    extract(tmp_path / "f", entry(b".", FILE, b"new"))
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (tmp_path / "f").read_bytes() == b"new"


def test_the_tree_itself_is_no_link(tmp_path):
    with pytest.raises(Failure, match="in place of"):
        extract(tmp_path / "f", entry(b".", LINK, b"/etc"))


def test_another_file_cannot_begin_inside_one(tmp_path):
    with pytest.raises(Failure, match="without an end"):
        extract(
            tmp_path / "d",
            entry(b".", FOLDER, left=Left.MORE),
            entry(b"a", FILE, b"x", Left.MORE),
            entry(b"b", FILE, b"y"),
        )
    assert names(tmp_path / "d") == []


NAMES = st.sampled_from([b".", b"a", b"a/b", b"a/b/c", b"b", b"..", b"/a", b"a/..", b"l", b"l/x"])
ENTRIES = st.builds(
    lambda name, kind, left, offset, content: named(name, Item((), kind, left, 0, offset), content),
    NAMES,
    st.sampled_from([FILE, FOLDER, LINK, stat.S_IFCHR | 0o600, 0o644]),
    st.sampled_from(list(Left)),
    st.sampled_from([0, 1, 10, 1 << 40, 1 << 60]),
    st.sampled_from([b"", b"x", b"../outside", b"/tmp", b"a\0b", b"y" * 5000]),
)


@settings(max_examples=150)
@given(st.lists(st.one_of(ENTRIES, st.binary(max_size=40)), max_size=12), st.integers(1, 3000))
def test_whatever_comes_nothing_is_written_elsewhere(entries, step):
    with tempfile.TemporaryDirectory() as folder:
        outside, inside = Path(folder, "outside"), Path(folder, "inside")
        outside.mkdir()
        inside.mkdir()
        data = b"".join(entries)
        with contextlib.suppress(Failure, OSError), Extractor(inside, "tree") as extractor:
            for start in range(0, len(data), step):
                extractor.feed(data[start : start + step])
        assert names(Path(folder)) == ["inside", "outside"]
        assert names(outside) == []
        assert names(inside) in ([], ["tree"])
        left = [path.name for path in inside.rglob("*")]
        assert not any(name.startswith(".mizzen-") for name in left)


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(Failure):
        for found in archive.Reader().feed(data):
            assert found
