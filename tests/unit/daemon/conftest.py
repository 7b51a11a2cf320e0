"""``mizzen up`` as a user starts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from up_process import UpProcess


@pytest.fixture
def up(tmp_path: Path) -> Iterator[UpProcess]:
    one = UpProcess(tmp_path)
    yield one
    one.close()
