"""What goes with a pipeline that is taken down: all it has made, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from deploying import PREFIX, Place, acting

from mizzen.control import deploy, dispose, down, stage
from mizzen.control.collect import Item, Kind, Plan
from mizzen.control.down import Facts, decide
from mizzen.control.stage import Candidate
from mizzen.engine.operation import TemporaryFailure
from mizzen.model.deployment import Live, LiveService
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.job import Outcome
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState
from mizzen.model.network import Edge, Forward, Publication, Transport
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.publish import claims
from mizzen.store import outcomes
from mizzen.store import services as store
from mizzen.store.database import transaction

OLD, NEW = "web-00000001", "web-00000002"
WEB = Service("web", (ServicePort(8080, 80),), Probe(ProbeKind.NONE), drain=0)
EDGE = Edge("entry", "signer", Transport.TCP, 25)
EDGE_KEY = dispose.edge_key("entry", "signer", "25/tcp")


def machine(name: str, address: str) -> Machine:
    network = MachineNetwork((PREFIX,), "web", addresses=(address,))
    spec = MachineSpec(name, "web", Path(), Path(), None, ProcessConfig(("/app",)), network=network)
    return Machine(spec, MachineState.RUNNING, 0, 0, 0.0)


def known(operation: str, key: str, pipeline: str = "shop") -> Outcome:
    return Outcome(operation, key, pipeline)


def published(key: str, *services: str, pipeline: str = "shop") -> Outcome:
    live = Live(key, tuple(LiveService(one, OLD) for one in services))
    return replace(known(stage.PUBLISHED, key, pipeline), value=msgspec.json.encode(live))


def leads(name: str, target: str) -> Publication:
    return Publication(name, (Forward("", 8080, Transport.TCP, target, 80),))


def release(service: str = "web", state: ReleaseState = ReleaseState.LIVE, **more) -> Release:
    live_since = None if state is ReleaseState.FAILED else 1.0
    given = {"number": 1, "machine": OLD, "live_since": live_since, **more}
    return Release(service, state=state, created=0.0, **given)


OWN = (
    known(dispose.ALLOWED, EDGE_KEY),
    known(deploy.DEPLOYED, OLD),
    known(deploy.LEASED, deploy.address_key(OLD, PREFIX)),
    known(deploy.LEASED, deploy.address_key(NEW, PREFIX)),
    known("publish collect", "shop"),
)
FACTS = Facts(
    pipeline="shop",
    known=(*OWN, published("web", "web")),
    services=frozenset({"web"}),
    releases=(release(),),
    published={"web": leads("web", "10.70.0.2")},
    edges=frozenset({EDGE_KEY}),
    machines={OLD: machine(OLD, "10.70.0.2")},
    tags=frozenset({f"machine:{OLD}", f"machine:{NEW}", "printer"}),
)
ALL = [("service", "web"), ("edge", EDGE_KEY), ("machine", OLD), ("addresses", NEW)]


def freed(facts: Facts) -> list[tuple[str, str]]:
    return [(item.kind.value, item.name) for item in decide(facts).free]


def kept(facts: Facts) -> list[tuple[str, str]]:
    return [(item.name, item.why) for item in decide(facts).keep]


def test_all_that_it_has_made_goes_services_first():
    assert freed(FACTS) == ALL
    assert kept(FACTS) == []


def test_what_is_gone_already_does_not_go_again():
    gone = replace(
        FACTS,
        services=frozenset(),
        releases=(),
        published={},
        edges=frozenset(),
        machines={},
        tags=frozenset(),
    )
    assert decide(gone) == Plan((), ())


def test_what_is_another_pipelines_or_nobodys_is_not_looked_at():
    theirs = tuple(replace(one, pipeline="bank") for one in FACTS.known)
    assert decide(replace(FACTS, known=theirs)) == Plan((), ())
    assert decide(replace(FACTS, known=())) == Plan((), ())


def test_all_services_of_a_stage_go():
    names = ("in", "out", "web")
    three = replace(
        FACTS,
        known=(published("mail", "in", "out"),),
        services=frozenset(names),
        releases=tuple(map(release, names)),
    )
    assert freed(three) == [("service", "in"), ("service", "out")]


def test_service_by_hand_that_took_a_name_after_a_removal_is_not_looked_at():
    by_hand = replace(FACTS, releases=(release(machine="mine"),), published={})
    assert freed(by_hand) == ALL[1:]
    switched = replace(FACTS, releases=(release(), release(number=2, machine="mine")))
    assert freed(switched) == ALL, "it is the pipeline's still"


def test_service_that_another_pipeline_publishes_too_stays_with_its_machine():
    both = replace(FACTS, known=(*FACTS.known, published("all", "web", pipeline="bank")))
    assert freed(both) == [("edge", EDGE_KEY), ("addresses", NEW)]
    assert kept(both) == [("web", "bank publishes it too"), (OLD, "it is live")]


def test_service_that_never_came_to_be_goes_if_only_its_machines_were_tried():
    failed = release(state=ReleaseState.FAILED)
    tried = replace(
        FACTS, known=(*OWN, known(stage.PUBLISHED, "web")), releases=(failed,), published={}
    )
    assert freed(tried) == ALL
    for other in (replace(failed, live_since=1.0), replace(failed, machine="mine")):
        by_hand = replace(tried, releases=(failed, other))
        assert ("service", "web") not in freed(by_hand)


def test_machine_that_a_service_by_hand_leads_to_stays():
    by_hand = replace(
        FACTS,
        services=frozenset({"web", "mine"}),
        releases=(release(), release("mine")),
    )
    assert freed(by_hand) == [("service", "web"), ("edge", EDGE_KEY), ("addresses", NEW)]
    assert kept(by_hand) == [(OLD, "it is live")]
    untold = replace(FACTS, published={**FACTS.published, "mine": leads("mine", "10.70.0.2")})
    assert kept(untold) == [(OLD, "mine leads to it")]


def test_machine_of_which_another_pipeline_has_a_part_stays():
    (lease,) = [one for one in OWN if one.key == deploy.address_key(OLD, PREFIX)]
    others = [replace(one, pipeline="bank") if one is lease else one for one in FACTS.known]
    assert kept(replace(FACTS, known=tuple(others))) == [(OLD, "bank has it too")]


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
        outcomes.succeed(connection, known(deploy.DEPLOYED, "till-00000001", "bank"))

        dry = await take_down(at, dry_run=True)
        assert at.plane.publications
        assert deploy.find(at.folders, OLD) is not None
        assert await take_down(at) == dry
        assert [(item.kind.value, item.name) for item in dry.free] == ALL
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
        assert [(item.kind.value, item.name) for item in plan.free] == [ALL[0], ALL[2]]
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
