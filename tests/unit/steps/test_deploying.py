"""Steps that deploy: what an engine makes of them, with a network daemon in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from deploying import Place, acting
from manual_clock import ManualClock

from mizzen.control import deploy, stage
from mizzen.engine.engine import Engine
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.states import Blocked, Failed, Ok
from mizzen.engine.terms import Term, constant
from mizzen.model.deployment import Address, Live, Vm
from mizzen.model.network import Edge, Transport
from mizzen.model.service import ProbeKind, ServicePort
from mizzen.steps import command, http, machines, network, publish, running, tcp

PREFIX = "10.70.0.0/24"


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[..., None]:
    return acting(tmp_path)


@contextlib.asynccontextmanager
async def engine(at: Place, *pipelines: Callable[[], object]) -> AsyncIterator[Engine]:
    made = Engine(at.at.means.connection, at.folders, ManualClock())
    for one in pipelines:
        made.add(Pipeline(one).build())
    try:
        yield made
    finally:
        await made.stop()


def term(made: Engine, label: str) -> Term[Any]:
    found = [t for graph in made.graphs for t in graph.terms.values() if t.label == label]
    assert len(found) == 1, label
    return found[0]


async def settled(made: Engine, label: str) -> Any:
    """Return a term's value, or its error as text, once it is known."""
    found = term(made, label)
    await made.until(lambda: isinstance(found.state, Ok | Failed | Blocked))
    await made.until(lambda: isinstance(found.state, Ok | Failed) or _held(found.state))
    return found.state.value if isinstance(found.state, Ok) else str(_error(found.state))


def _held(state: Any) -> bool:
    return isinstance(state, Blocked) and isinstance(state.state, Failed)


def _error(state: Any) -> Exception:
    return state.state.error if isinstance(state, Blocked) else state.error


def spec_in(at: Place, name: str = "web", **more: Any) -> Term[machines.Spec]:
    return machines.spec(name, at.image, memory=128, accel="tcg", **more)


def test_address_is_leased_once_for_the_machine_of_that_content(scenario):
    async def act(at: Place) -> None:
        def shop() -> None:
            network.address(spec_in(at), prefix=PREFIX, exclude=["10.70.0.2"])

        label = f"network address web {PREFIX}"
        async with engine(at, shop) as made:
            first = await settled(made, label)
        assert isinstance(first, Address)
        assert (str(first), first.prefix) == ("10.70.0.3", PREFIX)
        leases = [one async for one in at.at.means.network.addresses()]
        assert [one.tag for one in leases] == [f"machine:{first.machine}"]
        async with engine(at, shop) as made:
            assert await settled(made, label) == first
            assert made.hits["network address"] == 1, "it held"
        await at.at.means.network.release_address(f"machine:{first.machine}")
        async with engine(at, shop) as made:
            assert await settled(made, label) == first
        leases = [one async for one in at.at.means.network.addresses()]
        assert len(leases) == 1

    scenario(act)


def test_prefix_that_is_full_or_none_fails_at_the_address(scenario):
    async def act(at: Place) -> None:
        def shop() -> None:
            network.address(spec_in(at), prefix="10.9.0.0/30", exclude=["10.9.0.2"])
            network.address(spec_in(at), prefix="everywhere")

        async with engine(at, shop) as made:
            assert "it is full" in await settled(made, "network address web 10.9.0.0/30")
            assert "is no prefix" in await settled(made, "network address web everywhere")

    scenario(act)


def test_edge_leads_from_label_to_label_and_is_declared_again_if_it_is_gone(scenario):
    async def act(at: Place) -> None:
        def shop() -> None:
            network.allow(spec_in(at, "entry"), spec_in(at, "signer", network="mail"), 25)
            network.allow("entry", "dns", "53/udp")
            network.allow("entry", "dns", "all")

        async with engine(at, shop) as made:
            edge = await settled(made, "network allow entry to signer 25")
            assert edge == Edge("entry", "mail", Transport.TCP, 25)
            other = await settled(made, "network allow entry to dns 53/udp")
            assert "'all' is no port" in await settled(made, "network allow entry to dns all")
        assert at.plane.edges == {edge, other}
        await at.at.means.network.deny(edge)
        async with engine(at, shop) as made:
            await settled(made, "network allow entry to signer 25")
        assert at.plane.edges == {edge, other}

    scenario(act)


def test_address_of_another_machine_is_refused(scenario):
    async def act(at: Place) -> None:
        def shop() -> None:
            ip = network.address(spec_in(at, "entry"), prefix=PREFIX)
            machines.deploy(spec_in(at), ip)
            machines.deploy(spec_in(at, "api"), [])

        async with engine(at, shop) as made:
            why = await settled(made, "machines deploy web")
            assert "is the address of entry-" in why
            assert "it has no address" in await settled(made, "machines deploy api")

    scenario(act)


def test_machines_go_live_and_the_pipeline_finds_them_so_when_it_starts_again(scenario):
    async def act(at: Place) -> None:
        vms = {name: await machine(at, f"{name}-00000001") for name in ("entry", "signer")}

        def shop() -> None:
            publish.stage(
                "mail",
                [
                    publish.service("entry", constant(vms["entry"]), {25: 25}, ready=running()),
                    publish.service("signer", constant(vms["signer"]), {2525: 25}, ready=running()),
                ],
            )

        async with engine(at, shop) as made:
            live = await settled(made, "publish mail")
        assert isinstance(live, Live)
        assert [one.machine for one in live.services] == ["entry-00000001", "signer-00000001"]
        assert set(at.plane.publications) == {"entry", "signer"}
        async with engine(at, shop) as made:
            assert await settled(made, "publish mail") == live
            assert made.hits["publish"] == 1
        await at.at.means.network.unpublish("entry")
        async with engine(at, shop) as made:
            assert await settled(made, "publish mail") == live
        assert set(at.plane.publications) == {"entry", "signer"}

    scenario(act)


def test_service_is_published_by_one_step_only(scenario):
    async def act(at: Place) -> None:
        vm = await machine(at, "web-00000001")

        def shop() -> None:
            first = publish.port("web", constant(vm), {80: 80}, ready=running())
            part = publish.service("web", constant(vm), {81: 80}, ready=running())
            publish.stage("all", [part.gate(first)])

        async with engine(at, shop) as made:
            await settled(made, "publish web")
            assert "web is published as a part of web" in await settled(made, "publish all")

    scenario(act)


def test_what_nobody_needs_is_collected_once_the_services_are_known(scenario):
    async def act(at: Place) -> None:
        old, new = [await machine(at, f"web-0000000{number}") for number in (1, 2)]
        at.remember(deploy.DEPLOYED, old.machine)

        def shop() -> None:
            live = publish.port("web", constant(new), {80: 80}, ready=running())
            publish.collect([live])

        async with engine(at, shop) as made:
            assert await settled(made, "publish collect") == (old.machine,)
        assert deploy.find(at.folders, old.machine) is None
        assert deploy.find(at.folders, new.machine) is not None

    scenario(act)


def test_health_is_told_while_the_machine_runs(scenario):
    async def act(at: Place) -> None:
        vm = await machine(at, "web-00000001")

        def shop() -> None:
            machines.monitor(constant(vm))
            machines.is_running(constant(vm))

        async with engine(at, shop) as made:
            assert (await settled(made, "machines monitor")).machine == vm.machine
            assert await settled(made, "machines is_running") is True
            await at.kill(vm.machine)
            monitored = term(made, "machines monitor")
            runs = term(made, "machines is_running")
            await made.until(lambda: isinstance(monitored.state, Failed))
            await made.until(lambda: runs.state == Ok(value=False))

    scenario(act)


async def machine(at: Place, name: str) -> Vm:
    service, _, version = name.rpartition("-")
    address = await deploy.lease(at.at, name, PREFIX, [])
    return await deploy.deploy(at.at, at.deployment(version, service), [address], at.driver)


def test_what_is_no_step_or_the_wrong_one_fails_where_it_is_given():
    made: list[Term[Any]] = []

    def shop() -> None:
        strange: Any = constant("nothing of this kind")
        made.extend(
            [
                machines.deploy("web", strange),  # type: ignore[arg-type]
                machines.deploy(strange, strange),
                machines.monitor("web"),  # type: ignore[arg-type]
                machines.is_running("web"),  # type: ignore[arg-type]
                network.address("web", PREFIX),  # type: ignore[arg-type]
                network.address(strange, PREFIX),
                network.address(strange, PREFIX, exclude="10.70.0.2"),
                network.allow(5, "web", 25),  # type: ignore[arg-type]
                network.allow(strange, "web", 25),
                publish.port("web", "web", {80: 80}),  # type: ignore[arg-type]
                publish.service("web", "web", {80: 80}),  # type: ignore[arg-type]
                publish.stage("web", strange),
                publish.stage("web", ["web"]),  # type: ignore[list-item]
                publish.collect(strange),
            ]
        )

    Pipeline(shop).build().settle()
    for one in made:
        assert "wanted" in str(_error(one.state)), one


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"name": "Web"}, "'Web' cannot name a service"),
        ({"ports": {}}, "no port is named"),
        ({"ports": {"http": 80}}, "'http' is no port"),
        ({"ports": {"here:80": 80}}, "cannot publish at 'here'"),
        ({"ports": {"[::1]:http": 80}}, "'http' is no port"),
        ({"ports": {99999: 80}}, "'99999' is no port"),
        ({"ports": {"53/udp": "53/tcp"}}, "port 53/udp cannot lead to 53/tcp"),
        ({"ports": {80: 80, "80/tcp": 81}}, "it is named twice"),
        ({"ports": {"53/udp": 53}}, "it has no TCP port to try"),
        ({"ports": 80}, "has no attribute"),
        ({"ready": "http"}, "has no attribute"),
        ({"ready": http("healthz")}, "cannot probe by 'http:healthz'"),
        ({"ready": http(status=9)}, "HTTP has no status 9"),
        ({"ready": tcp(timeout="soon")}, "'soon' is no length of time"),
        ({"ready": command(" ")}, "cannot probe by"),
        ({"drain": "two days"}, "'two days' is no length of time"),
        ({"drain": "2d"}, "cannot drain for"),
        ({"addresses": ["here"]}, "cannot publish at 'here'"),
        ({"addresses": "::1"}, "a list is wanted: write ['::1']"),
    ],
)
def test_wrong_arguments_fail_at_the_port_with_the_line_to_mend(arguments, why):
    given = {"name": "web", "ports": {8080: 80}, **arguments}
    made: list[Term[Any]] = []

    def shop() -> None:
        vm = constant(Vm("web-00000001", "web", "00000001", ()))
        made.append(publish.port(vm=vm, **given))
        made.append(publish.service(vm=vm, **given))

    Pipeline(shop).build().settle()
    for one in made:
        assert isinstance(one.state, Failed)
        assert why in str(one.state.error)
        assert f"mend {__file__}:" in str(one.state.error)


def test_ports_and_readiness_read_as_they_are_written():
    made: list[Term[stage.Candidate]] = []

    def shop() -> None:
        vm = constant(Vm("web-00000001", "web", "00000001", ()))
        made.append(
            publish.service(
                "web",
                vm,
                {8080: 80, "53/udp": 5353, "[::1]:8081": "80/tcp"},
                ready=http("/healthz", contains="ok", interval="500ms"),
                drain=0,
                addresses=["192.0.2.1"],
            )
        )

    Pipeline(shop).build().settle()
    state = made[0].state
    assert isinstance(state, Ok)
    service = state.value.service
    assert service.ports == (
        ServicePort(8080, 80, Transport.TCP, "192.0.2.1"),
        ServicePort(53, 5353, Transport.UDP, "192.0.2.1"),
        ServicePort(8081, 80, Transport.TCP, "::1"),
    )
    probe = service.probe
    assert (probe.kind, probe.path, probe.contains) == (ProbeKind.HTTP, "/healthz", "ok")
    assert (probe.interval, probe.timeout, service.drain) == (0.5, 5.0, 0.0)
