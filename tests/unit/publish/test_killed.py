"""A command is killed at each of its steps, and the next one brings to its end what it left."""

import asyncio
import contextlib
import itertools

import pytest
from killed import killed_at
from publishing import NONE, MarkStarter, daemon_in_thread, release, service

from mizzen.model.errors import Failure
from mizzen.model.progress import silent
from mizzen.network import client
from mizzen.publish import routes
from mizzen.publish.remove import remove
from mizzen.publish.retire import publications
from mizzen.publish.rollout import roll_out
from mizzen.publish.settle import settle
from mizzen.publish.starter import Means
from mizzen.store import services as store
from mizzen.store.database import connect

WEB, API = service(probe=NONE), service("api", 8081, probe=NONE)


AFTER_THE_SWITCH = 45
"""Steps of a second rollout of both until the old releases drain."""


def killed(folder, network, work, at: int) -> bool:
    """Do some work in a child process that is killed at a step; return whether it came to that."""
    return killed_at(at, lambda step: _stepped(folder, network, work, step))


async def _stepped(folder, network, work, step):
    receive = client._receive

    async def received(connection):
        step()  # the request is under way, its answer not here
        answer = await receive(connection)
        step()
        return answer

    client._receive = received
    with contextlib.closing(connect(folder / "mizzen.db")) as connection:
        connection.set_trace_callback(step)
        starter = MarkStarter(folder / "running", step)
        await work(Means(connection, network, starter, silent))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "running").mkdir()
    with daemon_in_thread(tmp_path) as network:
        yield tmp_path, network


def survived(folder, network):
    """Settle what a killed command left, and look at it; return what is live by service."""

    async def main():
        with contextlib.closing(connect(folder / "mizzen.db")) as connection:
            starter = MarkStarter(folder / "running")
            means = Means(connection, network, starter, silent)
            await settle(means)
            assert store.underway(connection) == []
            published = await publications(means)
            found = {}
            for one in store.everything(connection):
                known = store.releases(connection, one.name)
                now = routes.live(one, known, published.get(one.name))
                assert [each for each in known if each.state == "live"] == ([now] if now else [])
                assert {each.state.value for each in known} <= {"live", "retired", "failed"}
                assert now is None or str(now) in starter.running
                assert {str(each) for each in known if each.state == "retired"}.isdisjoint(
                    starter.running
                )
                found[one.name] = now.number if now else 0
            assert set(published) == {name for name, number in found.items() if number}
            return found

    return asyncio.run(main())


async def both(means):
    await roll_out(means, [(WEB, release("ok")), (API, release("ok", "api"))])


async def failing(means):
    with contextlib.suppress(Failure):
        await roll_out(means, [(WEB, release("ok")), (API, release("fails", "api"))])


def test_a_rollout_killed_at_any_step_has_switched_all_its_services_or_none(place):
    folder, network = place
    before = {"web": 0, "api": 0}
    outcomes = set()
    for at in itertools.count(1):
        over = not killed(folder, network, both, at)
        now = survived(folder, network) or {"web": 0, "api": 0}
        switched = {name for name in now if now[name] != before[name]}
        assert switched in (set(), {"web", "api"})
        outcomes.add(bool(switched))
        before = now
        if over:
            assert switched
            break
    assert at > 20
    assert outcomes == {False, True}


def test_a_rollout_that_fails_and_is_killed_at_any_step_leaves_live_what_was(place):
    folder, network = place
    assert not killed(folder, network, both, 10**9)
    for at in itertools.count(1):
        over = not killed(folder, network, failing, at)
        assert survived(folder, network) == {"web": 1, "api": 1}
        if over:
            break
    assert at > 10


def test_a_removal_killed_at_any_step_is_done_or_not_begun(place):
    folder, network = place

    async def removed(means):
        await remove(means, "web")

    for at in itertools.count(1):
        assert not killed(folder, network, both, 10**9)
        over = not killed(folder, network, removed, at)
        found = survived(folder, network)
        assert "web" not in found or found["web"] > 0
        if over:
            assert "web" not in found
            break
    assert at > 10


def test_a_command_that_settles_may_be_killed_as_well(place):
    folder, network = place
    assert not killed(folder, network, both, 10**9)
    for at in itertools.count(1):
        assert killed(folder, network, both, AFTER_THE_SWITCH)
        with contextlib.closing(connect(folder / "mizzen.db")) as connection:
            known = [one.state for one in store.releases(connection, "web")]
        assert known[-2:] == ["draining", "live"]
        over = not killed(folder, network, settle, at)
        survived(folder, network)
        if over:
            break
    assert at > 5
