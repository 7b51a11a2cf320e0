import subprocess

import pytest

from mizzen.host import process
from mizzen.model.errors import Failure

DEAF = "trap '' TERM; echo ready; while :; do read line <&-; done"


def test_a_child_that_is_deaf_is_killed_and_nothing_is_raised(monkeypatch):
    monkeypatch.setattr(process, "GRACE", 0.1)
    with process.child(["sh", "-c", DEAF], what="x", stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout.readline() == b"ready\n"
    assert deaf.returncode == -9


def test_a_child_ends_with_its_block_whatever_ends_that():
    with pytest.raises(ValueError, match="mine"), process.child(["cat"], what="x") as cat:
        raise ValueError("mine")
    assert cat.returncode in {0, -15}  # it may have seen the end of its input first


def test_a_child_that_is_not_there_is_told():
    with (
        pytest.raises(Failure, match="mizzen-no-such"),
        process.child(["mizzen-no-such"], what="cannot try"),
    ):
        raise AssertionError
