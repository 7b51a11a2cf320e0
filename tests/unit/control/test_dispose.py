"""What pipelines' machines may go: not one that anybody could need."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from deploying import PREFIX, Place, acting

from mizzen.control import deploy, dispose, stage
from mizzen.control.collect import KEPT_FOR
from mizzen.control.dispose import Facts, Standing, why_kept
from mizzen.control.stage import Candidate
from mizzen.model.errors import Failure
from mizzen.model.network import Edge, Transport
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.publish.remove import remove
from mizzen.publish.rollout import INTERRUPTED

OLD, NEW = "web-00000001", "web-00000002"
NOW = 1e9
KNOWN = Standing(frozenset({"web"}), complete=True)
FACTS = Facts(KNOWN, {NEW}, {"web"}, (), {}, NOW)
WEB = Service("web", (ServicePort(8080, 80),), Probe(ProbeKind.NONE), drain=0)


def release(state: ReleaseState, number: int = 1, age: float = 0.0, **more: str) -> Release:
    return Release("web", number, state, NOW - age, **{"machine": OLD, **more})


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (FACTS, ""),
        (replace(FACTS, wanted={OLD}), "the pipeline wants it"),
        (replace(FACTS, replaced=()), "nothing has taken its place yet"),
        (replace(FACTS, standing=Standing(frozenset(), complete=True), replaced=()), ""),
        (
            replace(FACTS, standing=Standing(frozenset(), complete=False), replaced=()),
            "nothing has taken its place yet",
        ),
        (replace(FACTS, releases=(release(ReleaseState.LIVE),)), "it is live"),
        (replace(FACTS, releases=(release(ReleaseState.DRAINING),)), "it drains"),
        (replace(FACTS, releases=(release(ReleaseState.STARTING),)), "it is being rolled out"),
        (replace(FACTS, releases=(release(ReleaseState.RETIRED),)), ""),
        (
            replace(FACTS, releases=(release(ReleaseState.FAILED, reason="no answer"),)),
            "it failed, and is kept 24 h more",
        ),
        (replace(FACTS, releases=(release(ReleaseState.FAILED, age=KEPT_FOR),)), ""),
        (replace(FACTS, releases=(release(ReleaseState.FAILED, reason=INTERRUPTED),)), ""),
        (
            replace(
                FACTS,
                releases=(
                    release(ReleaseState.FAILED),
                    release(ReleaseState.FAILED, 2, machine="web-00000003"),
                ),
            ),
            "",
        ),
        (
            replace(
                FACTS,
                releases=(
                    release(ReleaseState.FAILED, age=9),
                    release(ReleaseState.RETIRED, 2, age=5),
                ),
            ),
            "",
        ),
    ],
)
def test_machine_goes_only_if_nobody_could_need_it(facts, why):
    assert why_kept(OLD, None, facts) == why


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., None]:
    return acting(tmp_path)


async def start(at: Place, name: str) -> Candidate:
    """Deploy a machine as a pipeline does."""
    return Candidate(WEB, await at.deployed(name))


def want_only(at: Place, name: str) -> None:
    at.wanted = {
        deploy.DEPLOYED: {name},
        deploy.LEASED: {deploy.address_key(name, PREFIX)},
    }


async def collect(at: Place, standing: Standing = KNOWN) -> tuple[tuple[str, ...], list[str]]:
    said: list[str] = []
    freed = await dispose.dispose(at.at, at.world, standing, said.append)
    return freed, said


async def leases(at: Place) -> list[str]:
    return [one.tag async for one in at.at.means.network.addresses()]


def test_machine_that_was_replaced_goes_with_all_it_had(scenario):
    async def act(at: Place) -> None:
        await stage.go_live(at.at, "web", [await start(at, OLD)])
        second = await start(at, NEW)
        want_only(at, NEW)
        freed, said = await collect(at)
        assert freed == ()
        assert said == [f"{OLD} stays: it is live", f"{NEW} stays: the pipeline wants it"]
        await stage.go_live(at.at, "web", [second])
        assert (await collect(at))[0] == (OLD,)
        assert deploy.find(at.folders, OLD) is None
        assert deploy.find(at.folders, NEW) is not None
        assert await leases(at) == [f"machine:{NEW}"]
        assert [one.machine for one in at.plane.links.values()] == [NEW]
        assert deploy.piped(at.at.means.connection) == {NEW}
        assert (await collect(at))[0] == ()

    scenario(act)


def test_machine_made_by_hand_is_not_looked_at(scenario):
    async def act(at: Place) -> None:
        address = await deploy.lease(at.at, OLD, PREFIX, [])
        await deploy.deploy(at.at, at.deployment(), [address], at.driver)
        assert await collect(at) == ((), [])

    scenario(act)


def test_a_built_file_goes_that_nothing_boots_or_is_to_boot(scenario):
    async def act(at: Place) -> None:
        one, two, three = (f"{number:064x}" for number in range(3))
        roots = at.folders.cache / "roots"
        roots.mkdir(parents=True)
        for name in (one, two, three):
            (roots / name).touch()
            if name != three:
                os.utime(roots / name, (NOW, NOW))
        at.known.append(replace(at.image, root=roots / two))
        _, said = await collect(at)
        assert said[-1].startswith(f"{roots / one} is removed: nothing has asked for it in")
        assert sorted(path.name for path in roots.iterdir()) == [two, three]

    scenario(act)


def test_address_whose_machine_never_started_goes_too(scenario):
    async def act(at: Place) -> None:
        await deploy.lease(at.at, OLD, PREFIX, [])
        at.remember(deploy.LEASED, deploy.address_key(OLD, PREFIX))
        await start(at, NEW)
        want_only(at, NEW)
        assert (await collect(at))[0] == (OLD,)
        assert await leases(at) == [f"machine:{NEW}"]

    scenario(act)


def test_what_was_cut_off_is_finished(scenario):
    async def act(at: Place) -> None:
        await start(at, OLD)
        await start(at, NEW)
        want_only(at, NEW)
        at.plane.failing["change"] = Failure("cannot", "the test says so", "")
        with pytest.raises(Failure, match="the test says so"):
            await collect(at)
        at.plane.failing.clear()
        assert (await collect(at))[0] == (OLD,)
        assert await leases(at) == [f"machine:{NEW}"]

    scenario(act)


def test_machine_that_a_service_by_hand_leads_to_stays(scenario):
    async def act(at: Place) -> None:
        first = await start(at, OLD)
        await start(at, NEW)
        want_only(at, NEW)
        by_hand = replace(WEB, name="mine")
        await stage.go_live(at.at, "mine", [replace(first, service=by_hand)])
        assert (await collect(at))[1][0] == f"{OLD} stays: it is live"

    scenario(act)


def test_edges_go_whose_step_is_gone_once_all_is_known(scenario):
    async def act(at: Place) -> None:
        edge = Edge("entry", "signer", Transport.TCP, 25)
        await at.at.means.network.allow(edge)
        await at.at.means.network.allow(replace(edge, port=26))
        at.remember(dispose.ALLOWED, dispose.edge_key("entry", "signer", "25/tcp"))
        await collect(at)
        at.wanted.clear()
        await collect(at, replace(KNOWN, complete=False))
        assert len(at.plane.edges) == 2
        await collect(at)
        assert at.plane.edges == {replace(edge, port=26)}, "that one was made by hand"

    scenario(act)


def test_machine_whose_step_is_gone_goes_once_its_service_is_removed(scenario):
    async def act(at: Place) -> None:
        await stage.go_live(at.at, "web", [await start(at, OLD)])
        at.wanted.clear()
        without = Standing(frozenset(), complete=True)
        assert await collect(at, without) == ((), [f"{OLD} stays: it is live"])
        await remove(at.at.means, "web")
        assert (await collect(at, without))[0] == (OLD,)
        assert await leases(at) == []

    scenario(act)


def test_with_user_networking_there_is_only_the_machine(scenario):
    async def act(at: Place) -> None:
        await start(at, OLD)
        await start(at, NEW)
        want_only(at, NEW)
        assert (await collect(at))[0] == (OLD,)

    scenario(act, "user")
