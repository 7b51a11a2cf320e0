"""The demo, and the same by hand: a function fails, is noticed, and is entered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from mizzen.host.paths import example

MIZZEN = [sys.executable, "-m", "mizzen"]
PROMPT = "/guest# "

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]


@pytest.fixture
def environment(cache):
    return {**os.environ, "MIZZEN_STATE": str(cache.state), "MIZZEN_RUNTIME": str(cache.runtime)}


@pytest.fixture
def mizzen(environment):
    """Run the command line without a terminal."""

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [*MIZZEN, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=500,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


def wait_until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_demo_looks_around_where_nobody_is_at_a_terminal(mizzen):
    output = mizzen("demo")
    assert "# uname -a\nLinux hellooopsie-" in output
    processes, _, log = output.partition("# ps\n")[2].partition("# tail /log\n")
    assert "nobody   python3 /srv/hellooopsie.py" in processes
    assert "ERROR: some periodic error" in log
    assert json.loads(mizzen("machines", "list", "--json")) == []


def test_the_demo_hands_the_terminal_over(on_terminal, environment, mizzen):
    terminal = on_terminal([*MIZZEN, "demo"], environment)
    before = terminal.wait_for(PROMPT, 500)
    assert "ERROR: some periodic error" in before
    assert "/log" in before
    terminal.type("tail -n 1 /log; hostname; exit\r")
    terminal.wait_for("ERROR: some periodic error\r\nhellooopsie-")
    assert terminal.process.wait(60) == 0
    assert json.loads(mizzen("machines", "list", "--json")) == []


def test_an_error_is_noticed_once_and_opens_one_shell(on_terminal, environment, mizzen):
    name = f"e2e-{os.getpid()}"
    source = str(example("hellooopsie"))

    def incidents() -> list[dict]:
        return json.loads(mizzen("incidents", "list", name, "--json"))

    mizzen("machines", "start", source, "--name", name, "--publish", "0:8080")
    try:
        watch = on_terminal([*MIZZEN, "watch", "--do", "attach"], environment)
        watch.wait_for(PROMPT, 120)
        (incident,) = incidents()
        assert incident["message"] == "ERROR: some periodic error"
        watch.type("echo insid''e; exit\r")
        watch.wait_for("inside\r\n")
        wait_until(lambda: incidents()[0]["count"] > incident["count"], 60)
        assert len(incidents()) == 1
        assert PROMPT not in watch.seen
        target = f"incident/{incident['id']}"
        assert mizzen("attach", target, "--", "hostname") == f"{name}\n"
        mizzen("incidents", "enter", str(incident["id"]), "--", "sh", "-c", "exit 9", status=9)
        watch.type("\x03")
        assert watch.process.wait(30) == 130
    finally:
        mizzen("machines", "stop", name)
        mizzen("machines", "remove", name)
