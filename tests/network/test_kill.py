"""The daemon is killed again and again under load, and nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from mizzen.benches import debian, place
from mizzen.benches.audit import Discord, discord
from mizzen.benches.killing import DELAY, Killing, Ledger, Survived
from mizzen.benches.wrk import Wrk, write_script
from mizzen.model.network import Forward, Publication, Transport
from mizzen.model.progress import silent

KILLS = 12


@pytest.fixture(scope="module")
def programs(cache):
    async def fetched():
        return [await debian.unpacked(cache, silent, name) for name in ("nginx", "wrk")]

    return asyncio.run(fetched())


def test_kills_during_rollouts_lose_nothing(tmp_path, programs):
    nginx, wrk = programs

    async def kill() -> Survived:
        with place.namespace() as client, place.namespace() as host:
            await place.join(client, host, 0)
            load = Wrk(wrk, write_script(tmp_path, DELAY), client, 2)
            with host.entered():
                async with place.daemon(tmp_path / "net") as daemon:
                    killing = Killing(nginx, tmp_path, host, load, daemon, seed=1)
                    return await killing.run(KILLS, lambda _: None)

    survived = asyncio.run(kill())
    assert survived.kills == KILLS
    assert survived.discord == Discord()
    assert survived.failures == []
    assert survived.rollouts > 0
    assert survived.failed == 0
    assert all(load.requests > 0 for load in survived.loads)


def test_what_is_wrong_behind_the_daemons_back_is_noticed(tmp_path):
    """The comparison itself can fail: a rule too many, one too few, an answer that is not so."""

    async def change() -> tuple[Discord, Discord]:
        with place.namespace() as client, place.namespace() as host, place.namespace() as machine:
            await place.join(client, host, 0)
            with host.entered():
                async with place.daemon(tmp_path / "net") as daemon:
                    network = Ledger(daemon.socket)
                    link = await place.open_link(network, "one", machine)
                    forward = Forward("", 80, Transport.TCP, link.addresses[0], 80)
                    await network.publish([Publication("web", (forward,))])
                    right = await discord(network, host, network.leases, network.published)
                    await place.run(
                        *host.inside("nft", "-f", "-"),
                        what="cannot spoil the rules",
                        stdin=b"delete element inet mizzen anywhere4 { tcp . 80 }\n"
                        b"add element inet mizzen outward { stranger }\n",
                    )
                    network.leases["nobody"] = "10.70.0.99"
                    network.published["lost"] = Publication("lost", (forward,))
                    return right, await discord(network, host, network.leases, network.published)

    right, wrong = asyncio.run(change())
    assert right == Discord()
    assert wrong == Discord(lost=1, doubled=0, publications=1, stale=1, missing=1)
