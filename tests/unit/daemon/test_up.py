"""``mizzen up``: its life, its one-ness, and what it says of files that are wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from up_process import UpProcess

from mizzen.host.process import ProcessId, start_time

SITE = """
@pipeline
def site():
    put("site", make("site"))
"""


def children(pid: int) -> list[ProcessId]:
    """Return the processes that another one has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [ProcessId(int(child), start_time(int(child))) for child in found]


def test_a_job_waits_until_it_is_released_and_is_followed_to_its_end(up: UpProcess) -> None:
    up.write(SITE, "site")
    up.start("--confirm", "high")
    job = up.until("make site", "running")["job"]
    up.say("site", "v1")
    assert up.until("make site", "ok")["detail"] == "v1"
    waiting = up.until("put site", "waiting")
    assert waiting["detail"] == f"mizzen jobs start {waiting['job']}"
    assert up.told("jobs", "show", str(waiting["job"]))["state"] == "waiting"
    up.told("jobs", "start", str(waiting["job"]))
    assert up.until("put site", "ok")["detail"] == "site is v1"
    done = up.mizzen("jobs", "logs", "-f", str(job))
    assert "making site" in done.stdout
    assert done.stderr == f"job {job} is ok\n"
    assert up.end() == 0
    assert up.said == ""


def test_sigterm_ends_jobs_and_their_processes_and_a_new_start_goes_on(up: UpProcess) -> None:
    up.write(SITE, "site")
    up.start()
    job = up.until("make site", "running")["job"]
    writer = os.open(up.folder / "site.pipe", os.O_WRONLY)  # returns once cat has begun
    (cat,) = children(up.pid)
    assert up.end() == 0
    os.close(writer)
    assert not cat.alive
    assert not up.folders.control.exists()
    assert [one["state"] for one in up.told("jobs", "list")] == ["interrupted"]
    up.start()
    assert up.until("make site", "running")["job"] == job + 1
    up.say("site", "v2")
    assert up.until("put site", "ok")["detail"] == "site is v2"


def test_after_a_sigkill_it_goes_on_and_what_is_done_stays_done(up: UpProcess) -> None:
    up.write(SITE, "site")
    up.start("--confirm", "high")
    up.until("make site", "running")
    up.say("site", "v1")
    job = up.until("put site", "waiting")["job"]
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    assert up.told("jobs", "show", str(job))["state"] == "interrupted"
    assert up.told("jobs", "list", "--state", "waiting") == []
    assert len(up.told("jobs", "list", "--state", "interrupted")) == 1
    up.start("--confirm", "high")
    assert up.until("make site", "ok")["detail"] == "v1"
    assert up.until("put site", "waiting")["job"] == job


def test_when_nobody_reads_what_it_prints_jobs_end_with_it(up: UpProcess) -> None:
    up.write(SITE, "site")
    up.start()
    up.until("make site", "running")
    writer = os.open(up.folder / "site.pipe", os.O_WRONLY)  # returns once cat has begun
    up.read_no_more()
    os.close(writer)
    assert up.ended() == 141
    assert not up.folders.control.exists()
    assert {job["state"] for job in up.told("jobs", "list")} <= {"ok", "interrupted", "cancelled"}


def test_there_is_one_for_a_state_folder(up: UpProcess) -> None:
    up.write(SITE, "site")
    up.start()
    line = up.refused("up", str(up.file))
    assert f"pid {up.pid}" in line
    mode = up.folders.control.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert up.told("jobs", "list"), "the first one answers still"


def test_lines_tell_what_happens(up: UpProcess) -> None:
    up.write(SITE + '    step(Put, "wrong", name=3, what="")\n', "site")
    up.start("--confirm", "high", json=False)
    up.say("site", "v1")
    lines = [up.line().split("  ", 1)[1] for _ in range(4)]
    assert lines[0].startswith("site  put wrong  failed  cannot do put wrong: name: Expected")
    assert f"mend {up.file}:" in lines[0]
    assert lines[1:] == [
        "site  make site  running  job 1\n",
        "site  make site  ok  v1\n",
        "site  put site  waiting  mizzen jobs start 2\n",
    ]
    assert up.end(signal.SIGINT) == 0


def test_a_terminal_shows_a_table_until_ctrl_c(
    up: UpProcess, on_terminal: Callable[[list[str], dict[str, str]], Any]
) -> None:
    up.write(SITE, "site")
    command = [sys.executable, "-m", "mizzen", "up", str(up.file)]
    terminal = on_terminal(command, up.environment)
    terminal.wait_for("running")
    up.say("site", "v1")
    terminal.wait_for("site is v1")
    terminal.type("\x03")
    assert terminal.process.wait(60) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nosuch", "No module named 'nosuch'; mend {}:1"),
        ("def x(:", "SyntaxError"),
        ("", "it holds no pipeline"),
        ("from mizzen import pipeline\n\n@pipeline\ndef site():\n    1 / 0\n", "mend {}:5"),
    ],
)
def test_a_file_that_does_not_load_is_told_with_its_line(
    up: UpProcess, text: str, said: str
) -> None:
    up.file.write_text(text)
    for options in ((), ("--plan",), ("--graph", "g.json")):
        assert said.format(up.file) in up.refused("up", str(up.file), *options)
    assert not up.folders.state.exists()


@pytest.mark.parametrize("place", ["9180", "localhost:9180", "127.0.0.1:x", "127.0.0.1:65536"])
def test_a_wrong_address_is_told(up: UpProcess, place: str) -> None:
    up.write(SITE)
    assert f"cannot listen at {place}" in up.refused("up", str(up.file), "--listen", place)


def test_a_plan_changes_nothing_and_names_what_would_change(up: UpProcess) -> None:
    up.write(SITE, "site")
    first = up.told("up", str(up.file), "--plan")
    assert [(one["noun"], one["label"], one["change"], one["why"]) for one in first] == [
        ("image", "make site", "would be made", ""),
        ("port", "put site", "may change", "depends on make site"),
    ]
    assert all(one["where"].startswith(f"{up.file}:") for one in first)
    assert not up.folders.state.exists()
    up.start()
    up.until("make site", "running")
    up.say("site", "v1")
    up.until("put site", "ok")
    planned = up.told("up", str(up.file), "--plan")
    assert [one["change"] for one in planned] == ["stays", "stays"]
    assert up.mizzen("up", str(up.file), "--plan").stdout == "Nothing would change.\n"
    assert len(up.told("jobs", "list")) == 2


@pytest.mark.parametrize("form", ["svg", "dot", "json"])
def test_the_graph_is_written_before_anything_ran(up: UpProcess, form: str) -> None:
    up.write(SITE)
    file = up.folder / f"graph.{form}"
    done = up.mizzen("up", str(up.file), "--graph", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "put site" in file.read_text()
    if form == "json":
        (drawing,) = json.loads(file.read_text())
        assert {box["state"] for box in drawing["boxes"]} == {"blocked"}
    assert not up.folders.state.exists()
