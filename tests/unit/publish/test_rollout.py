"""Rollouts with the real client and the daemon's real server, on a plane in memory."""

import asyncio
import dataclasses

import pytest
from publishing import elsewhere, release, service, stage

from mizzen.model.errors import Failure
from mizzen.model.network import Publication, Transport
from mizzen.model.service import Probe, ProbeKind, Service, ServicePort
from mizzen.publish import claims, routes
from mizzen.publish.remove import remove
from mizzen.publish.retire import publications
from mizzen.publish.rollout import roll_out
from mizzen.publish.settle import settle
from mizzen.store import services as store


def run(folder, scenario):
    """Run a scenario with a stage of its own."""

    async def main():
        async with stage(folder) as at:
            await scenario(at)

    asyncio.run(main())


def states(at, name="web"):
    return {one.number: one.state.value for one in store.releases(at.means.connection, name)}


async def live_number(at, wanted=None):
    wanted = wanted or service()
    published = (await publications(at.means)).get(wanted.name)
    found = routes.live(wanted, store.releases(at.means.connection, wanted.name), published)
    return found.number if found is not None else 0


def test_the_first_release_goes_live(tmp_path):
    async def scenario(at):
        report = await roll_out(at.means, [(service(), release("200"))])
        (one,) = report.services
        assert (one.number, one.machine, one.before, one.attempts) == (1, "web-1", 0, 1)
        assert states(at) == {1: "live"}
        assert await live_number(at) == 1
        assert store.underway(at.means.connection) == []
        assert at.starter.events == ["start web-1"]

    run(tmp_path, scenario)


def test_rollout_keeps_old_release_until_new_is_ready(tmp_path):
    patient = service(probe=Probe(ProbeKind.HTTP, interval=0, attempts=10**9))

    async def scenario(at):
        await roll_out(at.means, [(patient, release("200"))])
        before = dict(at.plane.publications)
        rolling = asyncio.create_task(roll_out(at.means, [(patient, release("waits"))]))
        await at.told.until("Probing web-2", done=1)
        assert at.plane.publications == before
        assert "stop web-1" not in at.starter.events
        at.starter.gate.set()
        report = await rolling
        assert report.services[0].attempts > 1
        assert report.services[0].before == 1
        assert at.plane.publications != before
        assert at.starter.events[-1] == "stop web-1"
        assert states(at) == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("503", "web-2 is not ready: it was tried 3 times, last: GET .* with 503, not 200"),
        ("ends", "web-2 is not ready: its machine has ended: exited with status 1"),
        ("fails", "cannot start machine web-2: the test says so"),
    ],
)  # fmt: skip
def test_a_release_that_does_not_get_ready_loses_nothing(tmp_path, source, reason):
    quick = service(probe=Probe(ProbeKind.HTTP, interval=0, attempts=3, status=200))
    if source == "ends":  # it answers never, so only its end ends the probing
        quick = service(probe=Probe(ProbeKind.HTTP, interval=3600, status=204))

    async def scenario(at):
        await roll_out(at.means, [(quick, release("200" if source != "ends" else "204"))])
        changes = len(at.plane.changes)
        with pytest.raises(Failure, match=rf"^cannot roll out web: {reason}; web-1 stays live; "):
            await roll_out(at.means, [(quick, release(source))])
        assert len(at.plane.changes) == changes
        assert states(at) == {1: "live", 2: "failed"}
        assert at.starter.events[-1].startswith("keep web-2: ")
        assert not any(event.startswith("stop") for event in at.starter.events)
        assert store.underway(at.means.connection) == []
        assert await live_number(at, quick) == 1

    run(tmp_path, scenario)


def both(web, api):
    return [(service(), release(web)), (service("api", 8081), release(api, "api"))]


def test_services_that_belong_together_switch_in_one_change(tmp_path):
    async def scenario(at):
        await roll_out(at.means, both("200", "200"))
        await roll_out(at.means, both("200", "200"))
        before, after = at.plane.changes[-1]
        assert [one.name for one in before.publications] == ["web", "api"]
        assert [one.name for one in after.publications] == ["web", "api"]
        assert len(at.plane.changes) == 2
        assert states(at) == states(at, "api") == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


def test_one_that_fails_keeps_the_others_from_switching(tmp_path):
    async def scenario(at):
        await roll_out(at.means, both("200", "200"))
        with pytest.raises(Failure, match=r"api-2 is not ready.*web-1, api-1 stay live"):
            await roll_out(at.means, both("200", "503"))
        assert len(at.plane.changes) == 1
        assert states(at) == states(at, "api") == {1: "live", 2: "failed"}
        reasons = [
            store.find_release(at.means.connection, name, 2).reason for name in ("web", "api")
        ]
        assert reasons[0] == "api-2, which it was rolled out with, failed"
        assert "503" in reasons[1]
        assert set(at.starter.running) == {"web-1", "api-1", "web-2", "api-2"}

    run(tmp_path, scenario)


def test_connections_are_drained_and_those_left_at_the_deadline_dropped(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(drain=0.05), release("200"))])
        at.plane.open = 3

        def told(seen):
            if seen.task == "Draining web-1" and seen.total == 3 and not seen.done:
                at.plane.count(1)

        means = dataclasses.replace(at.means, report=told)
        report = await roll_out(means, [(service(drain=0.05), release("200"))])
        (one,) = report.services
        assert (one.in_flight, one.drained, one.dropped, one.left) == (3, 2, 1, 0)
        assert one.steps.drain > 0
        assert at.starter.events[-1] == "stop web-1"

    run(tmp_path, scenario)


def test_a_release_is_stopped_once_its_last_connection_has_ended(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(drain=3600), release("200"))])
        at.plane.open = 1

        def told(seen):
            if seen.task == "Draining web-1" and seen.total == 1 and not seen.finished:
                assert "stop web-1" not in at.starter.events
                at.plane.count(0)

        means = dataclasses.replace(at.means, report=told)
        report = await roll_out(means, [(service(drain=3600), release("200"))])
        assert (report.services[0].drained, report.services[0].dropped) == (1, 0)

    run(tmp_path, scenario)


def test_what_mizzen_did_not_start_runs_on_and_is_told(tmp_path):
    none = service(probe=Probe(ProbeKind.NONE), drain=0.01)

    async def scenario(at):
        await roll_out(at.means, [(none, elsewhere(41000))])
        at.plane.open = 2
        report = await roll_out(at.means, [(none, release("200"))])
        (one,) = report.services
        assert one.left_running == ("mine",)
        assert (one.in_flight, one.dropped, one.left) == (2, 0, 2)
        assert not any(event.startswith("stop") for event in at.starter.events)
        assert states(at) == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


def test_a_machine_that_another_service_leads_to_runs_on(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        first = store.find_release(at.means.connection, "web", 1)
        other = service("admin", 9000)
        borrowed = dataclasses.replace(first, service="admin", number=0, source="")
        await roll_out(at.means, [(other, borrowed)])
        report = await roll_out(at.means, [(service(), release("200"))])
        assert report.services[0].left_running == ("web-1",)
        assert "web-1" in at.starter.running

    run(tmp_path, scenario)


def test_interrupted_before_the_switch_it_stops_what_it_started(tmp_path):
    patient = service(probe=Probe(ProbeKind.HTTP, interval=0, attempts=10**9))

    async def scenario(at):
        await roll_out(at.means, [(patient, release("200"))])
        rolling = asyncio.create_task(roll_out(at.means, [(patient, release("503"))]))
        await at.told.until("Probing web-2", done=1)
        rolling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rolling
        assert set(at.starter.running) == {"web-1"}
        assert states(at) == {1: "live", 2: "failed"}
        assert store.find_release(at.means.connection, "web", 2).reason.endswith("interrupted")
        assert store.underway(at.means.connection) == []
        await roll_out(at.means, [(patient, release("200"))])
        assert await live_number(at) == 3

    run(tmp_path, scenario)


def test_interrupted_while_it_drains_the_switch_stands_and_the_next_command_goes_on(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(drain=3600), release("200"))])
        at.plane.open = 1
        rolling = asyncio.create_task(roll_out(at.means, [(service(drain=3600), release("200"))]))
        await at.told.until("Draining web-1")
        rolling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rolling
        assert states(at) == {1: "draining", 2: "live"}
        at.plane.count(0)
        await settle(at.means)
        assert states(at) == {1: "retired", 2: "live"}
        assert set(at.starter.running) == {"web-2"}

    run(tmp_path, scenario)


def test_interrupted_at_the_very_switch_it_is_switched_or_not_and_known_to_be(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        rolling = asyncio.create_task(roll_out(at.means, [(service(), release("200"))]))
        await at.told.until("Switching web")
        rolling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rolling
        assert await live_number(at) == 2
        await settle(at.means)
        assert states(at) == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


def test_a_daemon_that_cannot_switch_loses_nothing(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        at.plane.failing["change"] = Failure("cannot change the rules", "no room", "make some")
        with pytest.raises(Failure, match="cannot change the rules: no room; web-1 stays live"):
            await roll_out(at.means, [(service(), release("200"))])
        assert states(at) == {1: "live", 2: "failed"}
        assert await live_number(at) == 1

    run(tmp_path, scenario)


def test_somebody_elses_change_of_the_publication_is_not_written_over(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        first = store.find_release(at.means.connection, "web", 1)
        moved = dataclasses.replace(first, ports=((80, 9, Transport.TCP),))

        waits = service(probe=Probe(ProbeKind.HTTP, interval=0, attempts=10**9))
        rolling = asyncio.create_task(roll_out(at.means, [(waits, release("waits"))]))
        await at.told.until("Probing web-2")
        await at.means.network.publish([routes.publication(service(), moved)])
        at.starter.gate.set()
        with pytest.raises(Failure, match="somebody else has changed it"):
            await rolling
        assert at.plane.publications["web"] == routes.publication(service(), moved)

    run(tmp_path, scenario)


def test_a_second_rollout_of_a_service_is_refused_by_who_does_the_first(tmp_path):
    patient = service(probe=Probe(ProbeKind.HTTP, interval=0, attempts=10**9))

    async def scenario(at):
        rolling = asyncio.create_task(roll_out(at.means, [(patient, release("waits"))]))
        await at.told.until("Probing web-1")
        await settle(at.means)  # leaves alone what is done by a process that runs
        with pytest.raises(Failure, match=r"process \d+ rolls out web-1"):
            await roll_out(at.means, [(service(), release("200"))])
        with pytest.raises(Failure, match=r"process \d+ rolls out web-1"):
            await remove(at.means, "web")
        assert states(at) == {1: "starting"}
        at.starter.gate.set()
        await rolling
        assert states(at) == {1: "live"}

    run(tmp_path, scenario)


def test_what_cannot_be_published_is_refused_before_anything_is_started(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        with pytest.raises(Failure, match="port 8080/tcp is published by web"):
            await roll_out(at.means, [(service("api", 8080), release("200", "api"))])
        udp = Service("dns", (ServicePort(53, 53, Transport.UDP),))
        with pytest.raises(Failure, match="it has no TCP port"):
            await roll_out(at.means, [(udp, release("200", "dns"))])
        first = store.find_release(at.means.connection, "web", 1)
        again = dataclasses.replace(first, number=0, source="")
        with pytest.raises(Failure, match="web-1 is live already"):
            await roll_out(at.means, [(service(), again)])
        assert at.starter.events == ["start web-1"]
        assert states(at, "api") == states(at, "dns") == {}

    run(tmp_path, scenario)


def test_an_answer_that_is_missing_is_looked_for_in_what_is_published(tmp_path, monkeypatch):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        publish = at.means.network.publish

        async def lost(wanted, expect=None):
            await publish(wanted, expect)
            raise Failure("cannot reach the network daemon", "it has not answered", "look at it")

        monkeypatch.setattr(at.means.network, "publish", lost)
        report = await roll_out(at.means, [(service(), release("200"))])
        assert report.services[0].number == 2
        assert states(at) == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


def test_where_nobody_can_tell_the_next_command_decides(tmp_path, monkeypatch):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        network = at.means.network
        publish = network.publish

        async def lost(wanted, expect=None):
            await publish(wanted, expect)
            monkeypatch.setattr(network, "publications", gone)
            raise Failure("cannot reach the network daemon", "it has not answered", "look at it")

        def gone():
            raise Failure("cannot reach the network daemon", "it is gone", "start it")

        with monkeypatch.context() as patch:
            patch.setattr(network, "publish", lost)
            with pytest.raises(Failure, match="it is gone"):
                await roll_out(at.means, [(service(), release("200"))])
            assert states(at) == {1: "live", 2: "starting"}
            assert set(at.starter.running) == {"web-1", "web-2"}
        monkeypatch.undo()
        await settle(at.means)
        assert states(at) == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


def test_removing_unpublishes_first_then_drains_stops_and_forgets(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        with pytest.raises(Failure):
            await roll_out(at.means, [(service(), release("503"))])
        at.plane.open = 1

        def told(seen):
            if seen.task.startswith("Draining") and not seen.finished:
                assert at.plane.publications == {}
                at.plane.count(0)

        done = await remove(dataclasses.replace(at.means, report=told), "web")
        assert (done.before, done.in_flight, done.drained) == (1, 1, 1)
        assert at.starter.events[-4:] == [
            "stop web-1",
            "stop web-2",
            "remove web-1",
            "remove web-2",
        ]
        assert store.find(at.means.connection, "web") is None
        assert states(at) == {}
        assert store.underway(at.means.connection) == []
        with pytest.raises(Failure, match="there is no such service"):
            await remove(at.means, "web")

    run(tmp_path, scenario)


def test_a_removal_that_was_cut_off_is_finished_by_the_next_command(tmp_path, monkeypatch):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        at.plane.open = 1
        removing = asyncio.create_task(remove(at.means, "web"))
        await at.told.until("Draining web-1")
        removing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removing
        at.plane.count(0)
        await settle(at.means)
        assert store.find(at.means.connection, "web") is None
        assert at.starter.running == {}

    run(tmp_path, scenario)


def test_a_publication_that_is_no_releases_makes_none_live(tmp_path):
    async def scenario(at):
        await roll_out(at.means, [(service(), release("200"))])
        at.plane.publications["x"] = Publication("x", ())
        await at.means.network.unpublish("web")
        assert await live_number(at) == 0
        report = await roll_out(at.means, [(service(), release("200"))])
        assert report.services[0].before == 0
        assert states(at) == {1: "retired", 2: "live"}

    run(tmp_path, scenario)


def test_a_process_that_runs_keeps_its_claim(tmp_path):
    async def scenario(at):
        with at.means.connection:
            held = claims.claim(at.means.connection, "web", 7)
        assert claims.alive(held)
        assert claims.take_over(at.means.connection, held) is None
        claims.let_go(at.means.connection, [held])
        (left,) = store.underway(at.means.connection)
        assert not claims.alive(left)
        assert claims.take_over(at.means.connection, left) == held

    run(tmp_path, scenario)
