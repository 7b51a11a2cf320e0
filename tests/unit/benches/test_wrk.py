"""wrk is told what to do, and what it tells is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mizzen.benches import debian, wrk
from mizzen.model.errors import Failure


class Nowhere:
    @staticmethod
    def inside(*arguments: str) -> list[str]:
        return ["in", *arguments]


@pytest.fixture
def load(tmp_path: Path) -> wrk.Wrk:
    linker = tmp_path / debian.LIBRARIES[0] / debian.LINKER
    linker.parent.mkdir(parents=True)
    linker.touch()
    return wrk.Wrk(tmp_path, Path("/done.lua"), Nowhere(), 4)  # type: ignore[arg-type]


def test_short_connections_are_closed_after_each_request(load):
    short = load.command("http://192.0.2.1/", 2, short=True)
    kept = load.command("http://192.0.2.1/", 2, short=False)
    assert short[0] == "in"
    assert " ".join(short).endswith(
        "/usr/bin/wrk -t 1 -c 4 -d 2s -s /done.lua -H Connection: close http://192.0.2.1/"
    )
    assert [word for word in short if word not in kept] == ["-H", "Connection: close"]


def test_the_last_line_is_what_was_found():
    told = b'Running 2s test\n  12 requests\n{"requests": 12, "seconds": 2.0, "p50": 80, '
    found = wrk.answered(told + b'"p99": 100, "failed": 1}\n')
    assert found == wrk.Answered(12, 2.0, 80, 100, 1)
    assert found.rate == 6


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"unable to connect to 192.0.2.1:80 Connection refused\n",
        b'{"requests": 0, "seconds": 2.0, "p50": 0, "p99": 0, "failed": 9}\n',
    ],
)
def test_a_load_that_nobody_answered_is_a_failure(told):
    with pytest.raises(Failure, match="cannot measure with wrk"):
        wrk.answered(told)


def test_every_kind_of_error_counts_as_failed(tmp_path):
    script = wrk.write_script(tmp_path).read_text()
    assert "e.connect + e.read + e.write + e.timeout + e.status" in script
    assert "delay" not in script


def test_a_load_can_wait_before_each_request(tmp_path):
    assert "delay = function() return 5 end" in wrk.write_script(tmp_path, 5).read_text()
