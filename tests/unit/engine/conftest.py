"""An engine that tests step by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from stepping import Stepper, world

from mizzen.host.paths import Folders


@pytest.fixture
def stepper(tmp_path: Path) -> Iterator[Stepper]:
    world.clear()
    one = Stepper(Folders(tmp_path / "state", tmp_path / "runtime"))
    with contextlib.closing(one.connection):
        yield one
