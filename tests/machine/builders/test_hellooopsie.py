import http.client
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples/functions/hellooopsie"
QUICK = "import hellooopsie; hellooopsie.PERIOD = 0.05; hellooopsie.main()"


@pytest.fixture
def function():
    """The function running on a free port, complaining more often than it does."""
    env = {**os.environ, "PORT": "0", "PYTHONPATH": str(EXAMPLE), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", QUICK],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def port(process):
    return int(re.search(r"port (\d+)", process.stdout.readline())[1])


def test_it_greets_counts_and_knows_what_it_has_not(function):
    connection = http.client.HTTPConnection("127.0.0.1", port(function), timeout=30)

    def get(path):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    assert get("/") == (200, "Hello from hellooopsie, visitor 1!\n")
    assert get("/?x=1") == (200, "Hello from hellooopsie, visitor 2!\n")
    assert get("/healthz") == (200, "ok\n")
    assert get("/other")[0] == 404
    connection.close()


def test_it_complains_on_stderr_again_and_again(function):
    port(function)
    assert function.stderr.readline() == "ERROR: some periodic error\n"
    assert function.stderr.readline() == "ERROR: some periodic error\n"


def test_it_ends_when_asked_to(function):
    port(function)
    function.terminate()
    assert function.wait(30) == 0
