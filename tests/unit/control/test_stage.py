"""Machines go live, alone or together, once; what fails leaves live what was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from deploying import Place, acting

from mizzen.control import deploy, stage
from mizzen.control.stage import Candidate
from mizzen.engine.operation import TemporaryFailure
from mizzen.model.deployment import Live, LiveService, Vm
from mizzen.model.errors import Failure
from mizzen.model.service import Probe, ProbeKind, ReleaseState, Service, ServicePort
from mizzen.publish import claims
from mizzen.store import services as store
from mizzen.store.database import transaction

NONE = Probe(ProbeKind.NONE)
NEVER = Probe(ProbeKind.COMMAND, command="false", interval=0, attempts=1)


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., None]:
    return acting(tmp_path)


async def start(at: Place, name: str) -> Vm:
    service, _, version = name.rpartition("-")
    address = await deploy.lease(at.at, name, "10.70.0.0/24", [])
    return await deploy.deploy(at.at, at.deployment(version, service), [address], at.driver)


def service(name: str = "web", port: int = 8080, probe: Probe = NONE) -> Service:
    return Service(name, (ServicePort(port, 80),), probe, drain=0)


def leads(at: Place) -> dict[str, set[str]]:
    return {
        name: {forward.target for forward in one.forwards}
        for name, one in at.plane.publications.items()
    }


def releases(at: Place, name: str = "web") -> list[tuple[str, ReleaseState]]:
    known = store.releases(at.at.means.connection, name)
    return [(one.machine, one.state) for one in known]


def test_machine_goes_live_once_and_stays_when_another_takes_its_place(scenario):
    async def act(at: Place) -> None:
        first = Candidate(service(), await start(at, "web-00000001"))
        assert not await stage.is_live(at.at, [first])
        live = await stage.go_live(at.at, "web", [first])
        assert live == Live("web", (LiveService("web", "web-00000001"),))
        assert await stage.is_live(at.at, [first])
        assert await stage.go_live(at.at, "web", [first]) == live
        assert releases(at) == [("web-00000001", ReleaseState.LIVE)]

        second = Candidate(service(), await start(at, "web-00000002"))
        await stage.go_live(at.at, "web", [second])
        assert releases(at) == [
            ("web-00000001", ReleaseState.RETIRED),
            ("web-00000002", ReleaseState.LIVE),
        ]
        assert leads(at) == {"web": {"10.70.0.3"}}
        assert at.machine("web-00000001").state == "running", "collect ends it"

    scenario(act)


def test_several_go_live_as_one_and_of_these_only_those_that_changed(scenario):
    async def act(at: Place) -> None:
        front = Candidate(service("front"), await start(at, "front-00000001"))
        back = Candidate(service("back", 9090), await start(at, "back-00000001"))
        await stage.go_live(at.at, "shop", [front, back])
        _, after = at.plane.changes[-1]
        assert {one.name for one in after.publications} == {"front", "back"}
        newer = Candidate(service("back", 9090), await start(at, "back-00000002"))
        await stage.go_live(at.at, "shop", [front, newer])
        _, after = at.plane.changes[-1]
        assert {one.name for one in after.publications} == {"back"}
        assert releases(at, "front") == [("front-00000001", ReleaseState.LIVE)]

    scenario(act)


def test_none_goes_live_if_one_is_not_ready(scenario):
    async def act(at: Place) -> None:
        good = Candidate(service(), await start(at, "web-00000001"))
        await stage.go_live(at.at, "web", [good])
        new = Candidate(service(), await start(at, "web-00000002"))
        bad = Candidate(service("api", 9090, NEVER), await start(at, "api-00000001"))
        with pytest.raises(Failure, match=r"stays live; see: mizzen incidents show \d") as raised:
            await stage.go_live(at.at, "both", [new, bad])
        assert "api-1 is not ready" in str(raised.value)
        assert leads(at) == {"web": {"10.70.0.2"}}
        assert releases(at)[-1] == ("web-00000002", ReleaseState.FAILED)
        assert releases(at, "api") == [("api-00000001", ReleaseState.FAILED)]
        assert at.machine("api-00000001").state == "running", "to be looked at"

    scenario(act)


def test_how_a_live_service_is_drained_can_change_alone(scenario):
    async def act(at: Place) -> None:
        candidate = Candidate(service(), await start(at, "web-00000001"))
        await stage.go_live(at.at, "web", [candidate])
        slower = replace(candidate, service=replace(candidate.service, drain=60))
        await stage.go_live(at.at, "web", [slower])
        assert store.find(at.at.means.connection, "web").drain == 60
        assert len(releases(at)) == 1

    scenario(act)


def test_rollout_by_hand_is_waited_for(scenario):
    async def act(at: Place) -> None:
        candidate = Candidate(service(), await start(at, "web-00000001"))
        with transaction(at.at.means.connection) as connection:
            claims.claim(connection, "web", 7)
        with pytest.raises(TemporaryFailure, match="rolls out web-7; wait for it to end"):
            await stage.go_live(at.at, "web", [candidate])

    scenario(act)


def test_port_that_is_taken_names_who_has_it(scenario):
    async def act(at: Place) -> None:
        at.plane.listeners[8080] = "a process of user root (uid 0), socket 7"
        candidate = Candidate(service(), await start(at, "web-00000001"))
        with pytest.raises(Failure, match="is taken by a process of user root"):
            await stage.go_live(at.at, "web", [candidate])

    scenario(act)


def test_machine_that_has_ended_or_is_gone_does_not_go_live(scenario):
    async def act(at: Place) -> None:
        candidate = Candidate(service(), await start(at, "web-00000001"))
        await at.kill("web-00000001")
        with pytest.raises(Failure, match="it has ended"):
            await stage.go_live(at.at, "web", [candidate])
        with deploy.machines.registry(at.folders) as registry:
            registry.remove("web-00000001")
        with pytest.raises(Failure, match="it is gone"):
            await stage.is_live(at.at, [candidate])

    scenario(act)


def test_with_user_networking_only_ports_that_the_machine_has_can_be_published(scenario):
    async def act(at: Place) -> None:
        vm = await start(at, "web-00000001")
        await stage.go_live(at.at, "web", [Candidate(service(), vm)])
        assert leads(at) == {"web": {"127.0.0.1"}}
        other = Service("api", (ServicePort(9090, 443),), NONE)
        with pytest.raises(Failure, match=r"has no port 443/tcp; .*machines\.spec"):
            await stage.go_live(at.at, "api", [Candidate(other, vm)])

    scenario(act, "user")


def test_service_of_two_stages_is_refused():
    vm = Vm("web-00000001", "web", "00000001", ())
    candidate = Candidate(service(), vm)
    stage.check_unique("web", [candidate], [Live("mail", (LiveService("entry", "entry-1"),))])
    with pytest.raises(Failure, match="published as a part of shop; choose another name"):
        stage.check_unique("web", [candidate], [Live("shop", (LiveService("web", "web-1"),))])
    with pytest.raises(Failure, match="two services called web"):
        stage.check_unique("shop", [candidate, candidate], [])
