"""``mizzen bench rollout`` measures everything it promises, on as little as it can."""

from __future__ import annotations

import asyncio
import math

from mizzen.benches import attach, rollout
from mizzen.benches.figures import Result
from mizzen.model.progress import silent

LEAST = rollout.Extent(
    rollouts=2, drain=0.5, rounds=1, seconds=1, kills=2, publications=10, addresses=10, starts=1,
    changes=2,
)  # fmt: skip


def test_everything_is_measured_and_nothing_is_lost(cache):
    async def measured(place) -> Result:
        return await rollout.run(await rollout.prepare(cache, place, silent, LEAST))

    with attach.workplace() as place:
        result = asyncio.run(measured(place))
    assert not place.exists()
    assert all(math.isfinite(one.median) for one in result.figures)
    peers = {one.peer.name for one in result.figures if one.peer}
    assert peers >= {"direct", "direct, nothing tracked", "docker-proxy", "HAProxy"}
    counts = {one.what: one.p99 for one in result.figures if one.goal == "median <= 0"}
    assert len(counts) == 13
    assert set(counts.values()) == {0}
    late = [one for one in result.figures if one.what.startswith("UDP packets answered by the old")]
    assert [one.met for one in late] == [True]
