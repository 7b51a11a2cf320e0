"""``mizzen bench attach`` measures everything it promises, on as little as it can."""

from __future__ import annotations

import asyncio
import math
import os

import pytest

from mizzen.benches import attach
from mizzen.benches.attach import Extent
from mizzen.model.progress import silent

LEAST = Extent(
    attaches=1, attaches_large=1, echoes=2, block=2, transfers=1, bulk=0.1, idle=0.2, settle=0,
    rounds=1, tries=1, slices=1, slice=0.05, small=256, middle=256, large=512,
)  # fmt: skip


@pytest.mark.machine
@pytest.mark.skipif(os.geteuid() != 0, reason="the guest's network needs root")
def test_everything_is_measured_beside_ssh(cache):
    with attach.workplace() as place:
        bench = asyncio.run(attach.prepare(cache, place, silent, LEAST))
        result = attach.run(bench)
    assert not place.exists()
    figures = {one.what: one for one in result.figures}
    assert all(math.isfinite(one.median) for one in figures.values())
    with_ssh = {what for what, one in figures.items() if one.peer and one.peer.name == "ssh"}
    assert with_ssh == {
        "attach to first output, 256 MiB",
        "echo round trip",
        "echo round trip, back to back",
        "output, guest to host",
        "input, host to guest",
    }
    assert sum(one.met is not None for one in figures.values()) == 11
