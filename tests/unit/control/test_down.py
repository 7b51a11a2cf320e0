"""A pipeline is taken down: nothing of it is left, and all is left that others have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from deploying import PREFIX, Place, acting

from mizzen.control import deploy, dispose, down, stage
from mizzen.control.collect import Item, Kind, Plan
from mizzen.control.stage import Candidate
from mizzen.engine.operation import TemporaryFailure
from mizzen.model.errors import Failure
from mizzen.model.job import Outcome
from mizzen.model.network import Edge, Transport
from mizzen.model.service import Probe, ProbeKind, Service, ServicePort
from mizzen.publish import claims
from mizzen.store import outcomes
from mizzen.store import services as store
from mizzen.store.database import transaction

OLD, NEW = "web-00000001", "web-00000002"
WEB = Service("web", (ServicePort(8080, 80),), Probe(ProbeKind.NONE), drain=0)
EDGE = Edge("entry", "signer", Transport.TCP, 25)
EDGE_KEY = dispose.edge_key("entry", "signer", "25/tcp")


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., None]:
    return acting(tmp_path)


async def go_live(at: Place, service: Service = WEB) -> None:
    """Publish a machine as a pipeline does, and have a build and a collection behind it."""
    vm = await at.deployed(OLD)
    live = await stage.go_live(at.at, service.name, [Candidate(service, vm)])
    at.remember(stage.PUBLISHED, service.name, msgspec.json.encode(live))
    at.remember("docker build", "digest")
    at.remember("publish collect", "shop")


async def take_down(at: Place, *, dry_run: bool = False) -> Plan:
    return await down.down(at.folders, "shop", at.told.append, dry_run=dry_run)


def named(plan: Plan) -> list[str]:
    return [f"{item.kind} {item.name}" for item in plan.free]


def remembered(at: Place) -> list[str]:
    return outcomes.pipelines(at.at.means.connection)


def test_nothing_is_left_and_what_others_have_stays(scenario):
    async def act(at: Place) -> None:
        network, connection = at.at.means.network, at.at.means.connection
        await go_live(at)
        await deploy.lease(at.at, NEW, PREFIX, [])
        at.remember(deploy.LEASED, deploy.address_key(NEW, PREFIX))
        for edge in (EDGE, replace(EDGE, port=26)):
            await network.allow(edge)
        at.remember(dispose.ALLOWED, EDGE_KEY)
        await network.request_address("printer", PREFIX)
        outcomes.succeed(connection, Outcome(deploy.DEPLOYED, "till-00000001", "bank"))

        dry = await take_down(at, dry_run=True)
        assert at.plane.publications
        assert deploy.find(at.folders, OLD) is not None
        assert await take_down(at) == dry
        assert named(dry) == [
            "service web",
            f"edge {EDGE_KEY}",
            f"machine {OLD}",
            f"addresses {NEW}",
        ]
        assert deploy.find(at.folders, OLD) is None
        assert not at.plane.links
        assert not at.plane.publications
        assert at.plane.edges == {replace(EDGE, port=26)}
        assert [one.tag async for one in network.addresses()] == ["printer"]
        assert store.everything(connection) == []
        assert remembered(at) == ["bank"]
        assert f"Stopping machine {OLD}" in [one.task for one in at.told]
        with pytest.raises(Failure, match="it has made nothing here; there are: bank"):
            await take_down(at)

    scenario(act)


def test_with_user_networking_there_are_services_and_machines(scenario):
    async def act(at: Place) -> None:
        await go_live(at)
        plan = await take_down(at)
        assert named(plan) == ["service web", f"machine {OLD}"]
        assert remembered(at) == []

    scenario(act, "user")


def test_service_whose_first_machine_did_not_get_ready_goes(scenario):
    async def act(at: Place) -> None:
        never = Probe(ProbeKind.COMMAND, command="false", interval=0, attempts=1)
        vm = Candidate(replace(WEB, probe=never), await at.deployed(OLD))
        with pytest.raises(Failure, match="web-1 is not ready"):
            await stage.go_live(at.at, "web", [vm])
        plan = await take_down(at)
        assert plan.free[0] == Item(Kind.SERVICE, "web", "it was never live")
        assert store.everything(at.at.means.connection) == []
        assert deploy.find(at.folders, OLD) is None

    scenario(act)


def test_machine_that_stays_goes_once_nobody_needs_it(scenario):
    async def act(at: Place) -> None:
        await go_live(at)
        mine = replace(WEB, name="mine", ports=(ServicePort(8081, 80),))
        vm = Candidate(mine, await at.deployed(OLD))
        await stage.go_live(at.at, "mine", [vm])
        plan = await take_down(at)
        assert plan.keep == (Item(Kind.MACHINE, OLD, "it is live"),)
        assert [one.key for one in outcomes.everything(at.at.means.connection)] == [
            OLD,
            deploy.address_key(OLD, PREFIX),
        ]
        with transaction(at.at.means.connection) as connection:
            store.remove(connection, "mine")
        await at.at.means.network.unpublish("mine")
        assert [item.name for item in (await take_down(at)).free] == [OLD]
        assert remembered(at) == []

    scenario(act)


def test_service_that_somebody_rolls_out_is_told_and_taken_down_later(scenario):
    async def act(at: Place) -> None:
        await go_live(at)
        with transaction(at.at.means.connection) as connection:
            claims.claim(connection, "web", 2)
        with pytest.raises(TemporaryFailure, match="rolls out web-2; wait for it to end"):
            await take_down(at)
        assert at.plane.publications
        store.conclude(at.at.means.connection, ["web"])
        await take_down(at)
        assert remembered(at) == []

    scenario(act)


def test_what_another_pipeline_takes_over_meanwhile_stays(scenario):
    async def act(at: Place) -> None:
        await go_live(at)
        connection = at.at.means.connection

        def adopt(_: object) -> None:
            for operation, key in (
                (deploy.DEPLOYED, OLD),
                (deploy.LEASED, deploy.address_key(OLD, PREFIX)),
            ):
                outcomes.adopt(connection, operation, key, "bank")

        plan = await down.down(at.folders, "shop", adopt, dry_run=False)
        assert [item.name for item in plan.free] == ["web"]
        assert deploy.find(at.folders, OLD) is not None
        assert remembered(at) == ["bank"]

    scenario(act)
