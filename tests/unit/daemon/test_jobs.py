"""``mizzen jobs``, over the control socket and without it."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from jobs import RECORD
from up_process import UpProcess

from mizzen.control import jobs as control
from mizzen.control.job_query import Page, from_query, to_query
from mizzen.host import sockets
from mizzen.model.errors import Failure
from mizzen.model.job import JobFilter, JobLine, JobRecord, JobState
from mizzen.store import database, jobs

TWO = """
@pipeline
def two():
    make("a")
    make("b")
"""


def fill(up: UpProcess, count: int) -> None:
    """Have so many jobs in the database: the n-th at second n, each third failed, with a log."""
    with (
        closing(database.connect(up.folders.database)) as connection,
        database.transaction(connection),
    ):
        for number in range(1, count + 1):
            label = f"{'make' if number % 2 else 'put'} {number}"
            wanted = replace(RECORD, label=label, digest=str(number), created=float(number))
            job = jobs.open_job(connection, wanted, endless=False).id
            failed = JobState.FAILED if number % 3 == 0 else JobState.OK
            error = Failure("cannot", "no", "yes") if number % 3 == 0 else None
            jobs.finish(connection, job, failed, number + 0.5, error)
            lines = [(job, JobLine(n, float(n), f"line {n} of {job}")) for n in range(3)]
            jobs.write_lines(connection, lines)


@pytest.mark.parametrize("running", [True, False])
def test_all_jobs_are_listed_however_many(up: UpProcess, *, running: bool) -> None:
    up.write("@pipeline\ndef site():\n    pass\n")
    fill(up, 450)
    if running:
        up.start()
    listed = up.told("jobs", "list")
    assert [job["id"] for job in listed] == list(range(450, 0, -1))
    assert [job["id"] for job in up.told("jobs", "list", "--limit", "3")] == [450, 449, 448]
    failed = up.told("jobs", "list", "--state", "failed", "--operation", "make")
    assert [job["id"] for job in failed] == list(range(447, 0, -6))
    assert failed[0]["error"] == "cannot: no; yes"
    both = up.told("jobs", "list", "--state", "failed", "--state", "ok")
    assert len(both) == 450
    (found,) = up.told("jobs", "list", "--text", "line 2 of 123")
    assert found["id"] == 123
    assert up.told("jobs", "list", "--since", "1h") == []
    assert len(up.told("jobs", "list", "--until", "1h")) == 450
    window = ("--since", "1970-01-01T00:00:10+00:00", "--until", "1970-01-01T00:00:12+00:00")
    assert [job["id"] for job in up.told("jobs", "list", *window)] == [12, 11, 10]
    assert up.told("jobs", "list", "--pipeline", "other") == []
    logs = up.mizzen("jobs", "logs", "7")
    assert [line.split("  ")[1] for line in logs.stdout.splitlines()] == [
        f"line {n} of 7" for n in range(3)
    ]
    assert "job 7 is ok" in up.mizzen("jobs", "logs", "7", "--follow").stderr
    for verb in ("show", "logs"):
        assert "there is none of that number" in up.refused("jobs", verb, "451")
        assert "there is none of that number" in up.refused("jobs", verb, str(1 << 70))


def test_what_changes_jobs_needs_up(up: UpProcess) -> None:
    fill(up, 1)
    for words in (("start", "1"), ("cancel", "1"), ("rebuild", "1"), ("rebuild", "--failed")):
        assert "no mizzen up runs here; start it" in up.refused("jobs", *words)


@pytest.mark.parametrize("running", [True, False])
def test_a_long_log_comes_whole(up: UpProcess, *, running: bool) -> None:
    fill(up, 1)
    with (
        closing(database.connect(up.folders.database)) as connection,
        database.transaction(connection),
    ):
        jobs.write_lines(connection, [(1, JobLine(n, 0.0, str(n))) for n in range(2500)])
    up.write("@pipeline\ndef site():\n    pass\n")
    if running:
        up.start()
    assert [line.text for line in control.log(up.folders, 1)] == list(map(str, range(2500)))
    *lines, end = control.follow_log(up.folders, 1)
    assert isinstance(end, JobRecord)
    assert len(lines) == 2500


def test_a_log_is_followed_as_it_is_written(up: UpProcess) -> None:
    up.write(TWO, "a", "b")
    up.start()
    job = str(up.until("make a", "running")["job"])
    command = [sys.executable, "-m", "mizzen", "jobs", "logs", "-f", job]
    with subprocess.Popen(
        command, env=up.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert following.stdout.readline().endswith("making a\n")
        up.say("a", "no")
        assert following.stdout.readline().endswith("cannot make a: it was told no; say yes\n")
        said = following.stderr.read()
    assert said == f"job {job} is failed: cannot make a: it was told no; say yes\n"


def test_whoever_follows_is_told_when_up_ends(up: UpProcess) -> None:
    up.write(TWO, "a", "b")
    up.start()
    job = up.until("make a", "running")["job"]
    lines = control.follow_log(up.folders, job)
    assert isinstance(next(lines), JobLine)
    assert up.end() == 0
    *_, last = lines
    assert isinstance(last, JobRecord)
    assert last.state is JobState.INTERRUPTED


def test_a_job_is_cancelled_and_rebuilt(up: UpProcess) -> None:
    up.write(TWO, "a", "b")
    up.start()
    job = up.until("make a", "running")["job"]
    up.told("jobs", "cancel", str(job))
    assert "was cancelled" in up.until("make a", "failed")["detail"]
    assert "it is cancelled" in up.refused("jobs", "cancel", str(job))
    assert "it is cancelled" in up.refused("jobs", "start", str(job))
    up.told("jobs", "rebuild", str(job))
    up.until("make a", "running")
    up.say("a", "yes")
    assert up.until("make a", "ok")["detail"] == "yes"


def test_all_that_failed_is_rebuilt(up: UpProcess) -> None:
    up.write(TWO, "a", "b")
    up.start()
    numbers = []
    for name in ("a", "b"):
        up.say(name, "no")
        numbers.append(up.until(f"make {name}", "failed")["job"])
    nothing = up.told("jobs", "rebuild", "--failed", "--pipeline", "other")
    assert nothing == {"rebuilt": [], "refused": []}
    assert up.told("jobs", "rebuild", "--failed", "--operation", "make a")["rebuilt"] == numbers[:1]
    up.say("a", "yes")
    up.until("make a", "ok")
    assert up.told("jobs", "rebuild", "--failed")["rebuilt"] == numbers[1:]
    up.say("b", "yes")
    up.until("make b", "ok")
    assert up.mizzen("jobs", "rebuild", "--failed").stdout == "No step has failed.\n"


def test_a_wrong_command_line_is_told(up: UpProcess) -> None:
    assert "neither an age nor a time" in up.refused("jobs", "list", "--since", "soon")
    assert "--limit" in up.refused("jobs", "list", "--limit", "-1")
    assert "--failed" in up.refused("jobs", "rebuild")
    assert "--failed" in up.refused("jobs", "rebuild", "1", "--failed")


def test_the_control_socket_refuses_what_it_does_not_understand(up: UpProcess) -> None:
    up.write("@pipeline\ndef site():\n    pass\n")
    up.start()
    for request, status in (
        (b"GET /jobs?state=odd HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /jobs?nothing=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /jobs?limit=0 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /jobs?since=nan HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /jobs/1/start HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"POST /jobs/99/start HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /jobs/99/log HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"\0\r\n\r\n", b"400"),
    ):
        with sockets.connect(up.folders.control, socket.SOCK_STREAM) as client:
            client.settimeout(60)
            client.sendall(request)
            assert client.recv(65536).split()[1] == status, request
    assert up.end() == 0


@pytest.mark.parametrize(
    ("wanted", "page"),
    [
        (JobFilter(), Page()),
        (JobFilter("p", "make a", (JobState.OK, JobState.FAILED), 1.5, 2e9, "ä&="), Page(7, 3)),
    ],
)
def test_queries_come_back(wanted: JobFilter, page: Page) -> None:
    assert from_query(to_query(wanted, page)) == (wanted, page)
