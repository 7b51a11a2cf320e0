"""A daemon that keeps very much starts, changes and says what it should."""

from __future__ import annotations

import asyncio

from mizzen.benches import place
from mizzen.benches.audit import Discord
from mizzen.benches.scaling import Much, Scaled, scale

MUCH = Much(publications=10_000, addresses=100_000, starts=1, changes=20)


def test_ten_thousand_publications_and_a_hundred_thousand_addresses_are_right(tmp_path):
    async def fill() -> Scaled:
        with place.namespace() as client, place.namespace() as host:
            await place.join(client, host, 0)
            with host.entered():
                async with place.daemon(tmp_path / "net") as daemon:
                    found = await scale(daemon, host, MUCH, lambda _: None)
                    status = await daemon.network.status()
        assert status.publications == MUCH.publications
        assert status.addresses == MUCH.addresses + 1 + MUCH.changes
        return found

    found = asyncio.run(fill())
    assert found.discord == Discord()
    assert len(found.changes) == MUCH.changes
