import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.incidents.follow import BATCH, LONGEST, Position, Tail

START = Position()


@pytest.fixture
def follow():
    with contextlib.ExitStack() as stack:

        def start(path: Path, position: Position = START) -> Tail:
            tail = Tail(path, position)
            stack.callback(tail.close)
            return tail

        yield start


def drained(tail: Tail, *, last: bool = False) -> list[str]:
    lines = []
    while batch := tail.read(last=last):
        lines += batch
    return lines


def test_a_file_that_is_not_there_yet_is_read_once_it_is(tmp_path, follow):
    tail = follow(tmp_path / "log")
    assert tail.read() == []
    (tmp_path / "log").write_text("one\ntw")
    assert tail.read() == ["one"]
    with (tmp_path / "log").open("a") as file:
        file.write("o\n")
    assert tail.read() == ["two"]
    assert tail.read() == []


def test_the_last_line_needs_no_newline_once_nothing_more_comes(tmp_path, follow):
    (tmp_path / "log").write_text("one\ntwo")
    tail = follow(tmp_path / "log")
    assert tail.read() == ["one"]
    assert drained(tail, last=True) == ["two"]


def test_a_position_goes_on_where_another_stopped(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    first = follow(path)
    assert drained(first) == ["one", "two"]
    with path.open("a") as file:
        file.write("three\n")
    assert drained(follow(path, first.position)) == ["three"]


def test_a_file_cut_short_is_read_anew_even_if_it_has_grown_again(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    tail = follow(path)
    drained(tail)
    path.write_text("new\n")  # truncates in place
    assert drained(tail) == ["new"]
    path.write_text("longer than before\nand more\n")
    assert drained(tail) == ["longer than before", "and more"]


def test_a_rotated_file_is_read_to_its_end_before_the_new_one(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("one\n")
    tail = follow(path)
    drained(tail)
    with path.open("a") as file:
        file.write("two\n")
    path.rename(tmp_path / "log.1")
    path.write_text("three\n")
    assert drained(tail) == ["two", "three"]


def test_a_file_that_was_deleted_and_comes_back_is_read(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("one\n")
    tail = follow(path)
    drained(tail)
    path.unlink()
    assert tail.read() == []
    path.write_text("two\n")
    assert drained(tail) == ["two"]


def test_of_an_enormous_line_only_the_beginning_is_kept(tmp_path, follow):
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 * BATCH + 5) + b"\nafter\n")
    assert drained(follow(path)) == ["x" * LONGEST, "after"]


def test_an_enormous_line_without_end_is_told_once_also_across_a_restart(tmp_path, follow):
    path = tmp_path / "log"
    path.write_bytes(b"x" * (LONGEST + 1))
    tail = follow(path)
    assert drained(tail) == ["x" * LONGEST]
    with path.open("ab") as file:
        file.write(b"y" * BATCH)
    assert drained(tail) == []
    again = follow(path, tail.position)
    with path.open("ab") as file:
        file.write(b"\nafter\n")
    assert drained(again) == ["after"]


@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=5))
def test_any_bytes_in_any_portions_give_the_same_lines(tmp_path_factory, data, cuts):
    path = tmp_path_factory.mktemp("any") / "log"
    position, lines = START, []
    for cut in sorted({*cuts, len(data)}):
        path.write_bytes(data[:cut])
        tail = Tail(path, position)
        lines += drained(tail)
        position = tail.position
        tail.close()
    with contextlib.closing(Tail(path, position)) as tail:
        lines += drained(tail, last=True)
    whole = data.split(b"\n")
    expected = whole if whole[-1] else whole[:-1]
    assert lines == [line.decode(errors="replace") for line in expected]
