"""``mizzen up``, killed a few times while it builds and deploys, loses and repeats nothing."""

from __future__ import annotations

import asyncio
import os

import pytest

from mizzen.benches import interrupted
from mizzen.model.progress import silent

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="networks need root"),
]

KILLS = 8


def test_pipeline_goes_on_wherever_it_was_killed(cache, tmp_path):
    told: list[int] = []
    found = asyncio.run(
        interrupted.endure(cache, tmp_path / "place", silent, count=KILLS, seed=3, told=told.append)
    )
    assert told == [*range(KILLS), KILLS]
    assert found.kills == KILLS
    assert found.visits.answered > 100
    assert found.visits.failures == []
    assert found.stuck == []
    assert found.broken == 0
    assert found.again == []
    assert (found.messages.twice, found.messages.lost) == (0, 0)
    assert found.left == []
    assert found.anew == 1, "a newer Mizzen does again what it does otherwise"
    assert found.besides == []
    assert found.restarts
