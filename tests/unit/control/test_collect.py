import asyncio
import contextlib
import dataclasses
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_plane import MemoryPlane
from publishing import daemon

from mizzen.control import collect, engine_lock
from mizzen.control.collect import KEPT_FOR, Facts, Kind, decide
from mizzen.host.paths import Folders
from mizzen.model.image import ProcessConfig
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState
from mizzen.model.network import Forward, Lease, Link, Publication, Transport
from mizzen.model.progress import silent
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.store import machines as machine_store
from mizzen.store import services as store
from mizzen.store.database import connect

NOW = 1e9
NOTHING = Facts(frozenset(), (), frozenset(), frozenset(), (), (), (), NOW)
PREFIX = "10.70.0.0/24"


def release(number, state, age=0.0, machine=None, source="./web"):
    return Release(
        "web",
        number,
        state,
        NOW - age,
        source=source,
        machine=machine or f"web-{number}",
        addresses=(f"10.70.0.{number + 1}",),
    )


def facts(*releases: Release, leads_to: str = "", **more) -> Facts:
    """Return a service with these releases, whose machines, links and leases are all there."""
    names = frozenset(one.machine for one in releases)
    forwards = (Forward("", 80, Transport.TCP, leads_to, 80),)
    given_ = Facts(
        services=frozenset({"web"}),
        releases=releases,
        machines=names,
        piped=frozenset(),
        publications=(Publication("web", forwards),) if leads_to else (),
        links=tuple(link(one.machine, *one.addresses) for one in releases),
        leases=tuple(lease(one.machine, one.addresses[0]) for one in releases),
        now=NOW,
    )
    return dataclasses.replace(given_, **more)


def link(machine: str, *addresses: str) -> Link:
    return Link(1, machine, machine, addresses, ("10.70.0.1",), "02:00:00:00:00:01")


def lease(machine: str, address: str) -> Lease:
    return Lease(address, f"machine:{machine}", PREFIX)


def freed(given_: Facts) -> list[tuple[str, str]]:
    return [(item.kind.value, item.name) for item in decide(given_).free]


@pytest.mark.parametrize("state", [ReleaseState.STARTING, ReleaseState.LIVE, ReleaseState.DRAINING])
def test_what_is_live_draining_or_being_rolled_out_stays(state):
    assert freed(facts(release(1, state, age=1e6))) == []


def test_a_retired_releases_machine_goes_and_takes_its_link_and_addresses_with_it():
    assert freed(facts(release(1, ReleaseState.RETIRED))) == [("machine", "web-1")]


def test_what_a_pipeline_has_stays_even_before_its_machine_is_started():
    piped = dataclasses.replace(
        NOTHING,
        machines=frozenset({"web-00000001"}),
        piped=frozenset({"web-00000001", "web-00000002"}),
        links=(link("web-00000001", "10.70.0.2"),),
        leases=(lease("web-00000001", "10.70.0.2"), lease("web-00000002", "10.70.0.3")),
    )
    plan = decide(piped)
    assert plan.free == ()
    assert {item.why for item in plan.keep} == {"it is a pipeline's", "they are a pipeline's"}


def test_a_retired_releases_machine_stays_while_anything_leads_to_it():
    plan = decide(facts(release(1, ReleaseState.RETIRED), leads_to="10.70.0.2"))
    assert plan.free == ()
    assert ("web-1", "web leads to it") in [(item.name, item.why) for item in plan.keep]


def test_a_failed_release_is_kept_for_a_day():
    young = release(1, ReleaseState.FAILED, age=KEPT_FOR - 1)
    old = release(2, ReleaseState.FAILED, age=KEPT_FOR + 1)
    assert freed(facts(young, old)) == [("machine", "web-2")]


def test_a_machine_that_was_made_by_hand_stays_whatever_became_of_its_release():
    borrowed = release(1, ReleaseState.RETIRED, machine="mine", source="")
    plan = decide(facts(borrowed))
    assert plan.free == ()
    assert "it was made by hand" in [item.why for item in plan.keep]


def test_links_and_addresses_of_machines_that_are_gone_go():
    left = dataclasses.replace(
        NOTHING,
        links=(link("gone", "10.70.0.9"),),
        leases=(lease("gone", "10.70.0.9"), Lease("10.70.0.8", "printer", PREFIX)),
    )
    assert freed(left) == [("link", "gone"), ("addresses", "gone")]


def test_links_and_addresses_without_a_machine_stay_while_a_service_leads_to_them():
    bare = Release("web", 1, ReleaseState.LIVE, NOW, addresses=("10.70.0.9",))
    left = facts(
        bare,
        leads_to="10.70.0.9",
        machines=frozenset(),
        links=(link("x", "10.70.0.9"),),
        leases=(lease("x", "10.70.0.9"),),
    )
    assert freed(left) == []


def test_a_publication_goes_that_is_no_services_and_then_what_it_led_to():
    stray = Publication("gone", (Forward("", 80, Transport.TCP, "10.70.0.9", 80),))
    left = dataclasses.replace(
        NOTHING,
        publications=(stray,),
        links=(link("x", "10.70.0.9"),),
        leases=(lease("x", "10.70.0.9"),),
    )
    assert freed(left) == [("publication", "gone"), ("link", "x"), ("addresses", "x")]


numbers = st.integers(1, 200)
all_facts = st.builds(
    lambda releases, published, links, leases, machines: facts(
        *{one.number: one for one in releases}.values(),
        leads_to=f"10.70.0.{published + 1}",
        machines=frozenset(f"web-{one}" for one in machines),
        links=tuple(link(f"web-{one}", f"10.70.0.{one + 1}") for one in links),
        leases=tuple(lease(f"web-{one}", f"10.70.0.{one + 1}") for one in leases),
    ),
    st.lists(st.builds(release, numbers, st.sampled_from(ReleaseState), st.floats(0, 1e6))),
    numbers,
    st.sets(numbers),
    st.sets(numbers),
    st.sets(numbers),
)


@given(all_facts)
def test_nothing_that_serves_is_ever_freed(given_):
    in_use = {"web"} | {one.machine for one in given_.releases if one.state in collect.IN_USE}
    target = given_.publications[0].forwards[0].target
    in_use |= {one.machine for one in given_.releases if target in one.addresses}
    in_use |= {one.machine for one in given_.links if target in one.addresses}
    assert not {item.name for item in decide(given_).free} & in_use


@pytest.fixture
def place(tmp_path, monkeypatch):
    settings = tmp_path / "mizzen.toml"
    settings.touch()
    monkeypatch.setenv("MIZZEN_CONFIG", str(settings))
    monkeypatch.setenv("MIZZEN_NET_SOCKET", str(tmp_path / "net.sock"))
    return Folders(tmp_path / "state", tmp_path / "run")


def ended(name: str) -> Machine:
    spec = MachineSpec(
        name,
        "./web",
        Path(),
        Path(),
        None,
        ProcessConfig(("/app",)),
        network=MachineNetwork((PREFIX,), "web"),
    )
    return Machine(spec, MachineState.STOPPED, 0, 0, 0.0, ended=1.0, reason="done")


async def everything(network, plane):
    return (
        [one async for one in network.addresses()],
        [one async for one, _ in network.links()],
        dict(plane.publications),
    )


@contextlib.asynccontextmanager
async def left_over(folders, tmp_path):
    """Have a live release, a retired one, a link and a publication of nobody's, and a lease."""
    plane = MemoryPlane("kernel")
    async with daemon(tmp_path, plane) as network:
        with contextlib.closing(connect(folders.database)) as connection:
            service = Service("web", (ServicePort(80, 80),), Probe(ProbeKind.NONE))
            store.save(connection, service)
            for number, state in ((1, ReleaseState.RETIRED), (2, ReleaseState.LIVE)):
                machine_store.save(connection, ended(f"web-{number}"))
                leased = await network.request_address(f"machine:web-{number}", PREFIX)
                _, tap = await network.open_link(f"web-{number}", label="web")
                os.close(tap)
                done = dataclasses.replace(
                    release(number, state), created=time.time(), addresses=(leased.address,)
                )
                store.save_release(connection, done)
            await network.publish(
                [Publication("web", (Forward("", 80, Transport.TCP, leased.address, 80),))]
            )
            lost = await network.request_address("machine:lost", PREFIX)
            _, tap = await network.open_link("lost")
            os.close(tap)
            await network.publish(
                [Publication("lost", (Forward("", 81, Transport.TCP, lost.address, 80),))]
            )
            await network.request_address("printer", PREFIX)
        yield network, plane


def test_collecting_frees_all_that_is_left_over_and_nothing_else(place, tmp_path):
    async def main():
        async with left_over(place, tmp_path) as (network, plane):
            before = await everything(network, plane)
            dry = await collect.collect(place, silent, dry_run=True)
            assert await everything(network, plane) == before
            plan = await collect.collect(place, silent, dry_run=False)
            assert plan == dry
            assert {(item.kind, item.name) for item in plan.free} == {
                (Kind.PUBLICATION, "lost"),
                (Kind.MACHINE, "web-1"),
                (Kind.LINK, "lost"),
                (Kind.ADDRESSES, "lost"),
            }
            leases, links, published = await everything(network, plane)
            assert {one.tag for one in leases} == {"machine:web-2", "printer"}
            assert [one.machine for one in links] == ["web-2"]
            assert set(published) == {"web"}
            with contextlib.closing(connect(place.database)) as connection:
                assert [one.spec.name for one in machine_store.everything(connection)] == ["web-2"]
            assert (await collect.collect(place, silent, dry_run=False)).free == ()

    asyncio.run(main())


def test_what_is_started_meanwhile_stays(place, tmp_path):
    async def main():
        async with left_over(place, tmp_path) as (network, plane):
            plan = await collect.collect(place, silent, dry_run=True)
            with contextlib.closing(connect(place.database)) as connection:
                machine_store.save(connection, ended("lost"))
                store.save(connection, Service("lost", (ServicePort(81, 80),)))
            async with collect.setting(place, silent) as at:
                for item in plan.free:
                    if item.name == "lost":
                        await collect._free(at, item)
            leases, links, published = await everything(network, plane)
            assert "machine:lost" in {one.tag for one in leases}
            assert "lost" in [one.machine for one in links]
            assert "lost" in published

    asyncio.run(main())


def test_a_built_file_goes_that_nothing_boots_unless_pipelines_may_need_it(place, tmp_path):
    async def main():
        async with daemon(tmp_path, MemoryPlane("kernel")):
            root = place.cache / "roots" / f"{7:064x}"
            root.parent.mkdir(parents=True)
            root.touch()
            os.utime(root, (NOW, NOW))
            with engine_lock.held(place, "x", ""):
                (kept,) = (await collect.collect(place, silent, dry_run=False)).keep
            assert (kept.kind, kept.name) == (Kind.BUILT, root.name[:12])
            assert "publish.collect of the mizzen up that runs judges it" in kept.why
            dry = await collect.collect(place, silent, dry_run=True)
            assert root.exists()
            plan = await collect.collect(place, silent, dry_run=False)
            assert [item.name for item in plan.free] == [item.name for item in dry.free]
            assert [item.name for item in plan.free] == [root.name[:12]]
            assert not root.exists()

    asyncio.run(main())
