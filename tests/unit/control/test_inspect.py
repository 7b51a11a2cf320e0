"""A target is a dump if it looks like a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from mizzen.control.inspect import dump_path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("file:core", Path("core")),
        ("/var/core", Path("/var/core")),
        ("./core", Path("core")),
        ("../core", Path("../core")),
        ("core", None),
        ("incident/3", None),
        ("pid:7", None),
    ],
)
def test_which_targets_are_dumps(target, path):
    assert dump_path(target) == path
