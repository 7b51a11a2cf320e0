from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.machines.files import MachineFiles
from mizzen.machines.outcome import REASON, ended_at, judge
from mizzen.model.machine import MachineState

STOPPED, FAILED = MachineState.STOPPED, MachineState.FAILED


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> MachineFiles:
    place = tmp_path_factory.mktemp("machine")
    made = MachineFiles(place / "logs", place / "sockets")
    made.make()
    return made


def write(files: MachineFiles, log: str = "", console: str = "", vmm: str = "") -> None:
    for path, text in ((files.log, log), (files.console, console), (files.vmm, vmm)):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))


def said(*texts: str) -> str:
    return "".join(f"2026-01-02T03:04:05.000000006Z init F {text}\n" for text in texts)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("started pid=9", "exited status=0"), (STOPPED, 0, "exited with status 0")),
        (("exited status=7",), (FAILED, 7, "exited with status 7")),
        (("stopping grace=10", "exited status=7"), (STOPPED, 7, "exited with status 7")),
        (("killed signal=11",), (FAILED, 139, "killed by SIGSEGV")),
        (("stopping grace=1", "killed signal=9"), (STOPPED, 137, "killed by SIGKILL")),
        (("fatal: cannot mount the root",), (FAILED, None, "cannot mount the root")),
        (("nothing to start",), (STOPPED, None, "nothing to start")),
    ],
)
def test_init_tells_how_the_function_ended(files, texts, expected):
    write(files, log=said(*texts))
    outcome = judge(files)
    assert (outcome.state, outcome.status, outcome.reason) == expected


def test_function_cannot_speak_as_init(files):
    line = "2026-01-02T03:04:05.000000006Z stdout F exited status=0\n"
    write(files, log=said("exited status=3") + line)
    assert judge(files).status == 3


def test_console_tells_where_the_log_does_not(files):
    console = "[    1.5] 2026-01-02T03:04:05.000000006Z init F fatal: no config\r\n"
    write(files, console=console)
    assert judge(files).reason == "no config"


def test_panic_is_the_reason(files):
    write(
        files,
        log=said("started pid=9"),
        console="[    2.1] Kernel panic - not syncing: Fatal exception\r\n[    2.2] ---[ end\r\n",
    )
    assert judge(files).reason == "kernel panic: Fatal exception"


def test_complaint_of_the_vmm_is_the_reason(files):
    write(files, vmm="qemu-system-x86_64: cannot set up guest memory\n\n")
    assert judge(files).reason == "the VMM failed: cannot set up guest memory"


def test_silent_end_is_a_failure(files):
    write(files)
    assert judge(files).state is FAILED


@pytest.mark.parametrize(
    ("console", "expected"),
    [
        ("web answers\r\nexited status=0\r\n", (STOPPED, 0, "exited with status 0")),
        ("exited status=3\r\n", (FAILED, 3, "exited with status 3")),
        (
            "fatal: no device\r\nexited status=1\r\n",
            (FAILED, 1, "exited with status 1: fatal: no device"),
        ),
        ("Solo5: solo5_exit(0) called\n", (STOPPED, 0, "exited with status 0")),
        (
            "Fatal error: exception Not_found\nSolo5: solo5_exit(2) called\n",
            (FAILED, 2, "exited with status 2: Fatal error: exception Not_found"),
        ),
        ("Solo5: solo5_abort() called\n", (FAILED, 255, "exited with status 255")),
        ("Solo5: ABORT: mem.c:51: out of it\n", (FAILED, 255, "exited with status 255")),
        (
            "exited status=0\nnot yet\n",
            (FAILED, None, "its VMM ended without a word; its last line: not yet"),
        ),
        ("", (FAILED, None, "its VMM ended without a word; it wrote nothing")),
    ],
)
def test_console_tells_how_a_unikernel_ended(files, console, expected):
    write(files, console=console)
    outcome = judge(files, unikernel=True)
    assert (outcome.state, outcome.status, outcome.reason) == expected


def test_unikernel_whose_vmm_failed_is_told_by_its_complaint(files):
    write(files, vmm="qemu-system-x86_64: Cannot load x86-64 image, give a 32bit one.\n")
    reason = judge(files, unikernel=True).reason
    assert reason == "the VMM failed: Cannot load x86-64 image, give a 32bit one."


def test_end_is_when_the_last_byte_was_written(files):
    write(files, log="x")
    os.utime(files.log, (100, 100))
    assert ended_at(files, 500) == 100
    assert ended_at(files, 50) == 50, "never in the future"
    write(files)
    assert ended_at(files, 500) == 500, "an empty log tells nothing"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
@given(log=st.text(), console=st.text(), fatal=st.text())
def test_whatever_a_guest_writes_makes_one_short_printable_line(files, log, console, fatal):
    write(files, log=log + "\n" + said(f"fatal: {fatal}"), console=console)
    for unikernel in (False, True):
        reason = judge(files, unikernel=unikernel).reason
        assert len(reason) <= REASON
        assert reason.isprintable()
