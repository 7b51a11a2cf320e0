"""What goes with a pipeline that is taken down, and what stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
from deploying import PREFIX

from mizzen.control import deploy, dispose, stage
from mizzen.control.collect import Plan
from mizzen.control.made import Facts, decide
from mizzen.model.deployment import Live, LiveService
from mizzen.model.image import ProcessConfig
from mizzen.model.job import Outcome
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState
from mizzen.model.network import Forward, Publication, Transport
from mizzen.model.service import Release, ReleaseState

OLD, NEW = "web-00000001", "web-00000002"
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
