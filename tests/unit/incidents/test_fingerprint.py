import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.incidents.fingerprint import normalised
from mizzen.incidents.grouping import Grouper
from mizzen.incidents.notice import occurrence, printable
from mizzen.incidents.rules import rules
from mizzen.model.log import LogLine, Stream

RULES = rules(match=["."])


def mark(text, stream=Stream.STDERR):
    grouper = Grouper()
    events = []
    for line in text.splitlines():
        events += grouper.add("k", LogLine(None, stream, line), 0)
    (event,) = events + grouper.close()
    seen = occurrence(event, RULES, "m", 1.0)
    assert seen is not None
    return seen.fingerprint


def traceback(line=1, text="x", kind="ValueError", function="f"):
    return (
        f'Traceback (most recent call last):\n  File "/a.py", line {line}, in {function}\n'
        f"    1/0\n{kind}: {text}"
    )


def oops(offset="16", address="0", place="sysrq_handle_crash"):
    return (
        f"BUG: kernel NULL pointer dereference, address: 000000000000000{address}\n"
        f"RIP: 0010:{place}+0x{offset}/0x20\n---[ end trace 0000000000000000 ]---"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ERROR: 3 of 17 failed", "ERROR: 4 of 20 failed"),
        ("ERROR: user 'a1b2' is gone", "ERROR: user 'zz9' is gone"),
        ("ERROR: peer 10.0.0.1:80", "ERROR: peer 192.168.7.20:8080"),
        ("ERROR: peer fe80::1", "ERROR: peer 2001:db8::17:2"),
        (
            "ERROR: id 123e4567-e89b-12d3-a456-426614174000",
            "ERROR: id 00000000-0000-0000-0000-00000000000f",
        ),
        ("ERROR: at 0x7f00", "ERROR: at 0xdeadbeef"),
        ("ERROR: commit 3f2a9c1be", "ERROR: commit 0011223344"),
        ("ERROR: since 2026-01-31T10:00:00Z", "ERROR: since 2025-12-01T01:02:03.5+01:00"),
        ("2026-01-31 10:00:00 ERROR x", "2026-01-31 10:00:15 ERROR x"),
        (traceback(1, "x"), traceback(7, "y")),
        ("ERROR:root:a\n" + traceback(), traceback()),
    ],
)
def test_equal(one, other):
    assert mark(one) == mark(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ERROR: disk", "ERROR: network"),
        (traceback(), traceback(kind="KeyError")),
        (traceback(), traceback(function="g")),
    ],
)
def test_different(one, other):
    assert mark(one) != mark(other)


def test_an_oops_is_known_by_its_kind_and_place():
    assert mark(oops(), Stream.KERNEL) == mark(oops("19", "8"), Stream.KERNEL)
    assert mark(oops(), Stream.KERNEL) != mark(oops(place="other"), Stream.KERNEL)


def test_recursion_is_the_same_at_any_depth():
    frame = '  File "/a.py", line 1, in f\n    f()\n'
    texts = [f"Traceback (most recent call last):\n{frame * n}RecursionError: x" for n in (2, 9)]
    assert mark(texts[0]) == mark(texts[1])


def test_a_group_is_known_by_its_members():
    def group(kind):
        return (
            "  + Exception Group Traceback (most recent call last):\n"
            '  |   File "x", line 1, in m\n  | ExceptionGroup: g (1 sub-exception)\n'
            "  +-+---------------- 1 ----------------\n"
            '    | Traceback (most recent call last):\n    |   File "x", line 2, in k\n'
            f"    | {kind}: a"
        )

    assert mark(group("ValueError")) != mark(group("KeyError"))


def test_the_status_tells_exits_apart():
    assert mark("exited status=7", Stream.INIT) != mark("exited status=1", Stream.INIT)


@given(st.text() | st.text(st.sampled_from("0123456789abcdefx:.-T'\" ")))
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@given(st.text())
def test_nothing_printable_moves_the_cursor(text):
    assert not any(ord(one) < 32 and one != "\t" for one in printable(text))


def test_escapes_of_a_terminal_are_taken_away():
    assert printable("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b") == "red x"
