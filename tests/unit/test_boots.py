"""A guest that dies before it is ready is booted again, one that fails later is not."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import boots
import pytest
from console import Console

GOOD = "echo ready; exec cat"
DEAD = "echo Oops"
MUTE = "exec cat"


@dataclass
class Guest:
    console: Console


@dataclass
class Shells:
    """Shells in place of virtual machines, one script for each boot."""

    scripts: list[str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @contextmanager
    def boot(self) -> Iterator[Guest]:
        here, there = socket.socketpair()
        with here, there:
            script = self.scripts[len(self.running)]
            with subprocess.Popen(["sh", "-c", script], stdin=there, stdout=there) as shell:
                there.close()
                self.running.append(shell)
                try:
                    yield Guest(Console(here))
                finally:
                    shell.kill()


@pytest.mark.parametrize("spoiled", [DEAD, MUTE])
def test_a_spoiled_boot_is_tried_again(spoiled):
    shells = Shells([spoiled, GOOD])
    with boots.ready(shells.boot, seconds=3):
        first, second = shells.running
        assert first.returncode is not None
        assert second.poll() is None


def test_boots_that_all_fail_fail():
    shells = Shells([DEAD] * (boots.BOOTS + 1))
    with pytest.raises(AssertionError, match="Oops"), boots.ready(shells.boot):
        pass
    assert len(shells.running) == boots.BOOTS


def test_what_fails_when_it_was_ready_is_not_tried_again():
    shells = Shells([GOOD, GOOD])
    with pytest.raises(AssertionError, match="afterwards"), boots.ready(shells.boot):
        raise AssertionError("afterwards")
    assert len(shells.running) == 1
