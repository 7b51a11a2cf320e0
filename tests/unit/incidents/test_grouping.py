import io
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.incidents.grouping import MOST_LINES, PATIENCE, QUIET, Event, Grouper, Shape
from mizzen.model.log import LogLine, Stream

PROGRAMS = {
    "plain": ("def f(): 1/0\ntry:\n f()\nexcept Exception: log.exception('failed')", 1),
    "chained": ("try:\n 1/0\nexcept Exception as e:\n raise ValueError('x') from e", 1),
    "during": ("try:\n 1/0\nexcept Exception:\n {}['key']", 1),
    "group": ("raise ExceptionGroup('g', [ValueError('a'), ExceptionGroup('h', [OSError(1)])])", 1),
    "group from": (
        "try:\n 1/0\nexcept Exception as e:\n raise ExceptionGroup('g', [KeyError(1)]) from e",
        1,
    ),
    "syntax": ("compile('a b', 'x.py', 'exec')", 1),
    "multi-line": ("raise ValueError('a\\n  b\\n  c')", 1),
    "recursion": ("def f(): f()\nf()", 1),
    "thread": (
        "import threading\nt = threading.Thread(target=lambda: 1/0)\nt.start(); t.join()",
        1,
    ),
    "two": ("log.error('one')\nlog.error('two')", 2),
    "two tracebacks": ("for i in range(2):\n try: 1/0\n except Exception: log.exception('x')", 2),
}
SETUP = "import logging; logging.basicConfig(); log = logging.getLogger('a')\n"

OOPS = """\
random: crng init done
BUG: kernel NULL pointer dereference, address: 0000000000000000
#PF: supervisor write access in kernel mode
Oops: 0002 [#1] PREEMPT SMP NOPTI
CPU: 0 PID: 99 Comm: bash Not tainted 6.1.0-13-cloud-amd64 #1
RIP: 0010:sysrq_handle_crash+0x16/0x20
Code: 66 66 2e 0f 1f 84
Call Trace:
 <TASK>
 __handle_sysrq.cold+0x9f/0x1d9
 </TASK>
Modules linked in: virtio_net
CR2: 0000000000000000
---[ end trace 0000000000000000 ]---
RIP: 0010:sysrq_handle_crash+0x16/0x20
Kernel panic - not syncing: Fatal exception
Kernel Offset: disabled
---[ end Kernel panic - not syncing: Fatal exception ]---
eth0: link up""".splitlines()

GO = """\
panic: boom [recovered]
\tpanic: boom

goroutine 1 [running]:
main.(*server).handle(0xc000, {0x1, 0x2})
\t/app/main.go:7 +0x1d
created by main.main in goroutine 1
\t/app/main.go:3 +0x25
exit status 2
listening""".splitlines()

JAVA = """\
Exception in thread "main" java.lang.IllegalStateException: no
\tat com.foo.Bar.baz(Bar.java:12)
\tat com.foo.Main.main(Main.java:3)
Caused by: java.io.IOException: disk
\t... 2 more
done""".splitlines()

RUST = ["thread 'main' panicked at src/main.rs:2:5:", "boom", "note: run with RUST_BACKTRACE=1"]


def grouped(lines: list[str], stream: Stream = Stream.STDERR) -> list[Event]:
    grouper = Grouper()
    events = [event for line in lines for event in grouper.add("k", LogLine(1.0, stream, line), 0)]
    return events + grouper.close()


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[str]]:
    """What real programs write when they fail."""
    running = {
        name: subprocess.Popen(
            [sys.executable, "-c", SETUP + program], stderr=subprocess.PIPE, text=True
        )
        for name, (program, _) in PROGRAMS.items()
    }
    return {name: process.communicate()[1].splitlines() for name, process in running.items()}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_python_writes_of_one_error_is_one_event(outputs, name):
    events = grouped(["before", *outputs[name], "after"])
    assert [event.lines for event in (events[0], events[-1])] == [("before",), ("after",)]
    assert len(events) == PROGRAMS[name][1] + 2
    assert [line for event in events for line in event.lines] == ["before", *outputs[name], "after"]


def test_a_logged_traceback_belongs_to_its_line():
    stream = io.StringIO()
    logger = logging.Logger("x")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed")
    (event,) = grouped(stream.getvalue().splitlines())
    assert event.shape is Shape.TRACEBACK


@pytest.mark.parametrize(
    ("lines", "stream", "shape"),
    [
        (GO, Stream.STDERR, Shape.GO),
        (JAVA, Stream.STDOUT, Shape.STACK),
        ([*RUST, "next"], Stream.STDERR, Shape.RUST),
        (OOPS[1:], Stream.KERNEL, Shape.KERNEL),
    ],
)
def test_other_failures_are_one_event(lines, stream, shape):
    events = grouped(lines, stream)
    assert [event.shape for event in events] == [shape, Shape.LINE]
    assert events[0].lines == tuple(lines[:-1])


def test_other_streams_do_not_break_a_traceback(outputs):
    grouper = Grouper()
    events: list[Event] = []
    for number, line in enumerate(outputs["chained"]):
        events += grouper.add("stderr", LogLine(None, Stream.STDERR, line), 0)
        events += grouper.add("stdout", LogLine(None, Stream.STDOUT, f"tick {number}"), 0)
    events += grouper.close()
    (traceback,) = [event for event in events if event.stream is Stream.STDERR]
    assert list(traceback.lines) == outputs["chained"]


def test_parts_of_a_line_are_joined():
    grouper = Grouper()
    assert not grouper.add("k", LogLine(1, Stream.STDERR, "ERR", partial=True), 0)
    assert not grouper.add("k", LogLine(2, Stream.STDERR, "OR: x"), 0)
    assert [event.lines for event in grouper.close()] == [("ERROR: x",)]


def test_an_event_is_over_when_nothing_comes():
    grouper = Grouper()
    grouper.add("a", LogLine(1, Stream.STDOUT, "ERROR: x"), now=10)
    grouper.add("b", LogLine(1, Stream.STDERR, "Traceback (most recent call last):"), now=10)
    assert grouper.deadline == 10 + QUIET
    assert not grouper.expire(10 + QUIET / 2)
    assert [event.lines[0] for event in grouper.expire(10 + QUIET)] == ["ERROR: x"]
    assert grouper.deadline == 10 + PATIENCE
    assert len(grouper.expire(10 + PATIENCE)) == 1
    assert grouper.deadline is None


def test_a_traceback_without_end_stays_small():
    frame = '  File "/app/x.py", line 1, in f'
    (event,) = grouped(["Traceback (most recent call last):", *[frame] * 100_000, "ValueError: x"])
    assert len(event.lines) == MOST_LINES + 1
    assert event.lines[-1] == "ValueError: x"


PIECES = st.sampled_from([
    *OOPS, *GO, *JAVA, *RUST, "", "  x", "hello", "ERROR: x", "ValueError: x",
    "Traceback (most recent call last):", '  File "x", line 1, in f', "    1/0",
    "During handling of the above exception, another exception occurred:",
    "  + Exception Group Traceback (most recent call last):", "  | ValueError: x",
])  # fmt: skip
LINES = st.builds(
    lambda stream, text, partial: LogLine(None, stream, text, partial and bool(text)),
    st.sampled_from(Stream),
    PIECES | st.text(st.characters(exclude_characters="\n"), max_size=30),
    st.booleans(),
)


@given(st.lists(st.tuples(LINES, st.sampled_from([0.0, 0.1, 1.0, 5.0])), max_size=60))
def test_no_text_is_lost_and_order_is_kept(arrivals):
    grouper, events, now = Grouper(), [], 0.0
    for line, pause in arrivals:
        now += pause
        events += grouper.expire(now)
        events += grouper.add(line.stream.value, line, now)
    events += grouper.close()
    for stream in Stream:
        sent = "".join(line.text for line, _ in arrivals if line.stream is stream)
        assert sent == "".join("".join(event.lines) for event in events if event.stream is stream)
