import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.incidents.grouping import Event, Grouper, Shape
from mizzen.incidents.rules import rules
from mizzen.model.errors import Failure
from mizzen.model.incident import IncidentKind
from mizzen.model.log import LogLine, Stream

DEFAULT = rules()
TRACEBACK = 'Traceback (most recent call last):\n  File "a", line 1, in f\nKeyError: 1'


def judged(text, stream=Stream.STDERR, by=DEFAULT):
    grouper = Grouper()
    events = []
    for line in text.splitlines():
        events += grouper.add("k", LogLine(None, stream, line), 0)
    (event,) = events + grouper.close()
    return by.judge(event)


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: some periodic error",
        '{"level":"error","msg":"x"}',
        "level=fatal msg=x",
        'time="t" level=info msg="ERROR: x" vmID=2',
        "2026-01-31 12:00:00 [error] x",
    ],
)
def test_errors(line):
    assert judged(line).kind is IncidentKind.OUTPUT


@pytest.mark.parametrize("line", ["hello", "INFO x", '{"level":"info","msg":"x"}', "errors: 0", ""])
def test_no_errors(line):
    assert judged(line + " ") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"ERROR:root:x\n{TRACEBACK}", "KeyError: 1"),
        ("panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1", "panic: boom"),
        ("thread 'main' panicked at a.rs:1:1:\nboom", "thread 'main' panicked at a.rs:1:1: boom"),
        ("TypeError: no function\n    at f (/app/a.js:1:2)", "TypeError: no function"),
        (f"level=error msg={json.dumps(TRACEBACK)}", "KeyError: 1"),
    ],
)
def test_the_message_names_the_error(text, message):
    assert judged(text).message == message


def test_the_message_of_a_group_is_the_outer_one():
    text = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "x", line 1, in <module>\n'
        "  | ExceptionGroup: g (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | ValueError: a\n"
        "    +------------------------------------"
    )
    assert judged(text).message == "ExceptionGroup: g (1 sub-exception)"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", True),
        ("BUG: unable to handle page fault for address: ffff", True),
        ("general protection fault, probably for non-canonical address 0x1: 0000 [#1]", True),
        ("Out of memory: Killed process 12 (python3) total-vm:1kB", True),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", True),
        ("WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2", False),
        ("ERROR: what a program wrote to the console", False),
    ],
)
def test_of_the_kernel(line, error):
    verdict = judged(line, Stream.KERNEL)
    assert (verdict is not None and verdict.kind is IncidentKind.KERNEL) == error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("started pid=40", None),
        ("exited status=0", None),
        ("exited status=143", None),
        ("killed signal=15", None),
        ("exited status=7", "the function exited with status 7"),
        ("killed signal=9", "the function was killed by SIGKILL"),
        ("killed signal=63", "the function was killed by signal 63"),
        ("fatal: cannot mount the root", "fatal: cannot mount the root"),
    ],
)
def test_of_init(line, message):
    verdict = judged(line, Stream.INIT)
    assert (verdict.message if verdict else None) == message


def test_settings_add_and_take_away():
    own = rules(levels=["WARN"], match=["out of cheese"], ignore=["^harmless"])
    assert judged("level=warning msg=x", by=own)
    assert judged("+++ out of cheese +++", by=own)
    assert not judged("ERROR: x", by=own)
    assert not judged("level=warn msg=harmless", by=own)


@pytest.mark.parametrize("expression", ["(", "(a+)+$", r"(\w+\s?)*x", "(?:a*|b)+", "(?:(a{2,})b)*"])
def test_an_expression_that_is_none_or_takes_for_ever_is_refused(expression):
    with pytest.raises(Failure, match="expression"):
        rules(match=[expression])


@pytest.mark.parametrize("expression", [r"a+b*", r"(?:\w++ )+", r"(?:ab)+c+", "(?>a+)+"])
def test_an_expression_that_ends_is_taken(expression):
    rules(match=[expression])


@given(st.sampled_from(Shape), st.sampled_from(Stream), st.lists(st.text(), min_size=1))
def test_any_event_can_be_judged(shape, stream, lines):
    DEFAULT.judge(Event(stream, shape, tuple(lines), None))
