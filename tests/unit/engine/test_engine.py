"""The engine: what runs when, what is remembered, and what a restart finds.

Each test steps a pipeline by hand, and compares what is drawn.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from stepping import Compile, Deploy, Stepper, Tell, Watch, world

from mizzen import Level, Pool, Retry, gather, policy
from mizzen.engine.operation import TemporaryFailure
from mizzen.engine.step import step
from mizzen.model.errors import Failure
from mizzen.model.job import JobFilter, JobRecord, JobState
from mizzen.store import jobs, outcomes


def stepped(
    test: Callable[[Stepper], Coroutine[Any, Any, None]],
) -> Callable[[Stepper], None]:
    """Run a test as a coroutine."""

    @functools.wraps(test)
    def run(stepper: Stepper) -> None:
        asyncio.run(test(stepper))

    return run


def site() -> None:
    head = step(Watch, "main", name="main")
    binary = step(Compile, "site", source=head)
    step(Deploy, "site", name="site", what=binary)


def recorded(stepper: Stepper) -> list[JobRecord]:
    found = jobs.page(stepper.connection, JobFilter(), before=None, limit=100)
    return [job for job in reversed(found) if job.operation != "watch"]


@stepped
async def test_a_commit_goes_all_the_way(stepper: Stepper) -> None:
    async with stepper.running(site):
        assert await stepper.drawn() == (
            "watch main: running watch main\n"
            "compile site: blocked on watch main\n"
            "deploy site: blocked on watch main"
        )
        world.see("main", "a1")
        assert await stepper.drawn() == (
            "watch main: ok a1\n"
            "compile site: running compile site\n"
            "deploy site: blocked on compile site"
        )
        world.finish("a1", "binary of a1")
        assert await stepper.drawn() == (
            "watch main: ok a1\ncompile site: ok binary of a1\ndeploy site: running deploy site"
        )
        world.finish("site=binary of a1", "live")
        assert (await stepper.drawn()).endswith("deploy site: ok live")
    assert [(job.label, job.state) for job in recorded(stepper)] == [
        ("compile site", JobState.OK),
        ("deploy site", JobState.OK),
    ]


async def deployed(stepper: Stepper, commit: str = "a1") -> None:
    world.see("main", commit)
    await stepper.quiet()
    if commit in world.running:
        world.finish(commit, f"binary of {commit}")
        await stepper.quiet()
    if f"site=binary of {commit}" in world.running:
        world.finish(f"site=binary of {commit}", f"live {commit}")
        await stepper.quiet()


@stepped
async def test_a_restart_does_nothing_again_that_was_done(stepper: Stepper) -> None:
    async with stepper.running(site):
        await deployed(stepper)
    async with stepper.running(site):
        world.see("main", "a1")
        assert (await stepper.drawn()).endswith("deploy site: ok live a1")
    assert world.runs == ["a1", "site=binary of a1"]


@stepped
async def test_under_a_new_name_a_pipeline_takes_over_what_it_finds_unchanged(
    stepper: Stepper,
) -> None:
    def shop() -> None:
        site()

    async with stepper.running(site):
        await deployed(stepper, "a1")
        await deployed(stepper, "b2")
    async with stepper.running(shop):
        await deployed(stepper, "b2")
        assert (await stepper.drawn()).endswith("deploy site: ok live b2")
        assert [one.key for one in stepper.published("deploy")] == ["site"]
    assert world.runs == ["a1", "site=binary of a1", "b2", "site=binary of b2"]
    (left,) = outcomes.of_pipeline(stepper.connection, "compile", "site")
    assert left.value == b'"binary of a1"'
    assert outcomes.of_pipeline(stepper.connection, "deploy", "site") == []


@stepped
async def test_under_a_new_name_a_pipeline_takes_over_what_failed_before(stepper: Stepper) -> None:
    def shop() -> None:
        site()

    async with stepper.running(site):
        world.see("main", "a1")
        await stepper.quiet()
        world.finish("a1", Failure("cannot compile a1", "a comma is missing", "add one"))
        await stepper.quiet()
    async with stepper.running(shop):
        world.see("main", "a1")
        await stepper.quiet()
    assert world.runs == ["a1"]
    assert outcomes.pipelines(stepper.connection) == ["shop"]


@stepped
async def test_a_value_that_holds_no_more_is_made_again(stepper: Stepper) -> None:
    async with stepper.running(site):
        await deployed(stepper)
    world.holds = False
    async with stepper.running(site):
        world.see("main", "a1")
        await stepper.quiet()
        assert world.runs == ["a1", "site=binary of a1", "a1"]


@stepped
async def test_an_earlier_commit_is_deployed_again_without_being_built_again(
    stepper: Stepper,
) -> None:
    async with stepper.running(site):
        for commit in ("a1", "b2", "a1"):
            await deployed(stepper, commit)
        assert (await stepper.drawn()).endswith("deploy site: ok live a1")
    assert world.runs == ["a1", "site=binary of a1", "b2", "site=binary of b2", "site=binary of a1"]


@stepped
async def test_a_newer_commit_ends_the_build_of_the_older(stepper: Stepper) -> None:
    async with stepper.running(site):
        world.see("main", "a1")
        await stepper.quiet()
        world.see("main", "b2")
        await stepper.quiet()
        assert sorted(world.runs) == ["a1", "a1 ended", "b2"]
        world.finish("b2", "binary of b2")
        await stepper.quiet()
        assert "site=binary of b2" in world.running
    assert recorded(stepper)[0].state is JobState.CANCELLED


@stepped
async def test_without_auto_cancel_the_older_build_goes_on(stepper: Stepper) -> None:
    def patient() -> None:
        with policy(auto_cancel=False):
            site()

    async with stepper.running(patient):
        world.see("main", "a1")
        await stepper.quiet()
        world.see("main", "b2")
        await stepper.quiet()
        assert world.runs == ["a1", "b2"]
        world.finish("a1", "binary of a1")
        world.finish("b2", "binary of b2")
        await stepper.quiet()
    assert [job.state for job in recorded(stepper)][:2] == [JobState.OK, JobState.OK]


@stepped
async def test_a_publication_is_set_to_one_thing_at_a_time(stepper: Stepper) -> None:
    def patient() -> None:
        head = step(Watch, "main", name="main")
        with policy(auto_cancel=False):
            step(Deploy, "site", name="site", what=head)

    async with stepper.running(patient):
        for commit in ("a1", "b2", "c3"):
            world.see("main", commit)
            await stepper.quiet()
        assert world.runs == ["site=a1"]
        world.finish("site=a1", "live a1")
        assert (await stepper.drawn()).endswith("deploy site: running deploy site")
        assert world.runs == ["site=a1", "site=c3"]
        world.finish("site=c3", "live c3")
        assert (await stepper.drawn()).endswith("deploy site: ok live c3")


@stepped
async def test_a_build_of_equal_inputs_is_one(stepper: Stepper) -> None:
    def twins() -> None:
        step(Compile, "one", source="x")
        step(Compile, "two", source="x")

    async with stepper.running(twins):
        await stepper.quiet()
        world.finish("x", "binary")
        assert await stepper.drawn() == "compile one: ok binary\ncompile two: ok binary"
    assert world.runs == ["x"]


@stepped
async def test_a_key_that_two_steps_set_differently_is_refused_at_the_second(
    stepper: Stepper,
) -> None:
    def clash() -> None:
        step(Deploy, "one", name="site", what="a")
        step(Deploy, "two", name="site", what="b")

    async with stepper.running(clash):
        drawn = await stepper.drawn()
        assert "deploy one: running deploy one" in drawn
        assert "deploy two: failed cannot do deploy two" in drawn
        assert "test_engine.py:" in drawn
    assert world.runs == ["site=a", "site=a ended"]


@stepped
async def test_a_permanent_error_is_not_tried_again_and_is_remembered(stepper: Stepper) -> None:
    async with stepper.running(site):
        world.see("main", "a1")
        await stepper.quiet()
        world.finish("a1", Failure("cannot compile", "it is wrong", "mend it"))
        drawn = await stepper.drawn()
        assert "compile site: failed cannot compile: it is wrong; mend it" in drawn
        assert "deploy site: blocked on compile site" in drawn
        assert not stepper.clock.sleepers
    async with stepper.running(site):
        world.see("main", "a1")
        assert "compile site: failed cannot compile" in await stepper.drawn()
    assert world.runs == ["a1"]


@stepped
async def test_a_temporary_error_is_tried_again_ever_later(stepper: Stepper) -> None:
    def tried() -> None:
        with policy(retry=Retry(attempts=4, delay=2, longest=5)):
            step(Compile, "x", source="x")

    async with stepper.running(tried):
        for wait in (2, 4, 5):
            await stepper.quiet()
            world.finish("x", TemporaryFailure("cannot compile", "the disk is busy"))
            assert f"running again in {wait} s: cannot compile" in await stepper.drawn()
            assert stepper.clock.sleepers == [wait]
            stepper.clock.pass_(wait)
            await stepper.quiet()
        world.finish("x", TemporaryFailure("cannot compile", "the disk is busy"))
        assert await stepper.drawn() == "compile x: failed cannot compile: the disk is busy"
    assert recorded(stepper)[0].attempts == 4
    async with stepper.running(tried):  # and a restart tries again
        assert await stepper.drawn() == "compile x: running compile x"


@stepped
async def test_an_unexpected_error_is_shown_with_its_job(stepper: Stepper) -> None:
    async with stepper.running(lambda: step(Compile, "x", source="x")):
        await stepper.quiet()
        world.finish("x", ZeroDivisionError("by zero"))
        assert await stepper.drawn() == "compile x: failed by zero"
    job = recorded(stepper)[0]
    assert (
        job.error == f"compile x failed: ZeroDivisionError: by zero; see: mizzen jobs logs {job.id}"
    )
    text = [line.text for line in jobs.lines(stepper.connection, job.id)]
    assert text[0] == "compiling x"
    assert "Traceback (most recent call last):" in text


@stepped
async def test_a_timeout_ends_the_work(stepper: Stepper) -> None:
    def hasty() -> None:
        with policy(timeout=0.01):
            step(Compile, "x", source="x")

    async with stepper.running(hasty) as engine:
        await engine.until(lambda: "ended" in " ".join(world.runs))
        await stepper.quiet()
        assert "failed compile x was ended: it was not done after 0.01 s" in await stepper.drawn()


@stepped
async def test_a_result_expires(stepper: Stepper) -> None:
    def daily() -> None:
        with policy(valid_for=86400):
            step(Compile, "x", source="x")

    async with stepper.running(daily):
        await stepper.quiet()
        world.finish("x", "first")
        assert await stepper.drawn() == "compile x: ok first"
        stepper.clock.pass_(86399)
        assert await stepper.drawn() == "compile x: ok first"
        stepper.clock.pass_(1)
        assert await stepper.drawn() == "compile x: running compile x"
        world.finish("x", "second")
        await stepper.quiet()
        stepper.clock.pass_(50_000)
    async with stepper.running(daily):
        assert await stepper.drawn() == "compile x: ok second"
        assert stepper.clock.sleepers == [36_400]
        stepper.clock.pass_(36_400)
        assert await stepper.drawn() == "compile x: running compile x"


@stepped
async def test_a_latched_value_stays_while_the_next_is_made(stepper: Stepper) -> None:
    def latched() -> None:
        head = step(Watch, "main", name="main")
        with policy(latched=True):
            binary = step(Compile, "site", source=head)
        step(Deploy, "site", name="site", what=binary)

    async with stepper.running(latched):
        await deployed(stepper)
        world.see("main", "b2")
        assert (await stepper.drawn()).splitlines()[1:] == [
            "compile site: ok binary of a1, behind it running compile site",
            "deploy site: ok live a1",
        ]
        world.finish("b2", "binary of b2")
        assert "deploy site: running" in await stepper.drawn()


@stepped
async def test_a_pool_lets_some_run_at_a_time_first_come_first_served(stepper: Stepper) -> None:
    def many() -> None:
        with policy(pool=Pool("build", 2)):
            for name in "abcd":
                step(Compile, name, source=name)

    async with stepper.running(many) as engine:
        await stepper.quiet()
        assert world.runs == ["a", "b"]
        assert engine.pools.waiting == {"build": 2}
        world.finish("b", "done")
        await stepper.quiet()
        assert world.runs == ["a", "b", "c"]
        assert "compile d: running queued" in await stepper.drawn()


@stepped
async def test_a_dangerous_job_waits_until_it_is_released(stepper: Stepper) -> None:
    def guarded() -> None:
        with policy(level=Level.DANGEROUS):
            step(Deploy, "site", name="site", what="a")
        step(Compile, "x", source="x")

    async with stepper.running(guarded, confirm=Level.HIGH):
        assert await stepper.drawn() == "deploy site: waiting\ncompile x: running compile x"
    async with stepper.running(guarded, confirm=Level.HIGH) as engine:
        assert (await stepper.drawn()).startswith("deploy site: waiting")
        (job,) = [one for one in recorded(stepper) if one.state is JobState.WAITING]
        assert job.id == 1
        engine.start(job.id)
        assert (await stepper.drawn()).startswith("deploy site: running deploy site")
        with pytest.raises(Failure, match="it is running"):
            engine.start(job.id)
    async with stepper.running(guarded, confirm=Level.HIGH):  # it was released for good
        assert (await stepper.drawn()).startswith("deploy site: running deploy site")


@stepped
async def test_a_job_that_waits_can_be_cancelled_and_rebuilt(stepper: Stepper) -> None:
    def guarded() -> None:
        with policy(level=Level.DANGEROUS):
            step(Deploy, "site", name="site", what="a")

    async with stepper.running(guarded, confirm=Level.HIGH) as engine:
        await stepper.quiet()
        engine.cancel(1)
        assert "failed deploy site was cancelled" in await stepper.drawn()
        engine.rebuild(1)
        assert await stepper.drawn() == "deploy site: waiting"
    assert world.runs == []


@stepped
async def test_cancelling_ends_the_work_and_rebuilding_does_it_again(stepper: Stepper) -> None:
    async with stepper.running(lambda: step(Compile, "x", source="x")) as engine:
        await stepper.quiet()
        engine.cancel(1)
        assert "failed compile x was cancelled" in await stepper.drawn()
        assert world.runs == ["x", "x ended"]
        engine.rebuild(1)
        await stepper.quiet()
        world.finish("x", "binary")
        assert await stepper.drawn() == "compile x: ok binary"
        engine.rebuild(1)
        assert await stepper.drawn() == "compile x: running compile x"
        with pytest.raises(Failure, match="it is cancelled"):
            engine.cancel(1)
        with pytest.raises(Failure, match="none of that number"):
            engine.rebuild(77)
    assert [job.state for job in recorded(stepper)] == [
        JobState.CANCELLED,
        JobState.OK,
        JobState.INTERRUPTED,
    ]


@stepped
async def test_what_was_interrupted_goes_on_and_what_must_not_be_repeated_does_not(
    stepper: Stepper,
) -> None:
    def both() -> None:
        step(Compile, "x", source="x")
        step(Tell, "chat", name="chat", what="hello")

    async with stepper.running(both):
        await stepper.quiet()
    assert [job.state for job in recorded(stepper)] == [JobState.INTERRUPTED] * 2
    async with stepper.running(both) as engine:
        drawn = await stepper.drawn()
        assert "compile x: running compile x" in drawn
        assert "tell chat: failed tell chat was not finished: Mizzen was killed" in drawn
        engine.rebuild(2)
        assert "tell chat: running tell chat" in await stepper.drawn()
        world.finish("chat=hello", "told")
        assert "tell chat: ok told" in await stepper.drawn()
    async with stepper.running(both):
        assert "tell chat: ok told" in await stepper.drawn()
    assert world.runs.count("chat=hello") == 2


@stepped
async def test_what_is_watched_again_is_the_same_job(stepper: Stepper) -> None:
    for _ in range(3):
        async with stepper.running(site):
            world.see("main", "a1")
            await stepper.quiet()
    found = jobs.page(stepper.connection, JobFilter(), before=None, limit=100)
    (watching,) = [job for job in found if job.operation == "watch"]
    assert watching.state is JobState.INTERRUPTED
    assert watching.attempts == 3


@stepped
async def test_a_source_that_fails_is_looked_at_again(stepper: Stepper) -> None:
    async with stepper.running(site):
        world.see("main", Failure("cannot read", "it is gone"))
        assert "watch main: failed cannot read: it is gone" in await stepper.drawn()
        stepper.clock.pass_(10)
        world.see("main", "a1")
        assert "watch main: ok a1" in await stepper.drawn()


@stepped
async def test_wrong_inputs_are_shown_at_their_step_and_the_rest_goes_on(stepper: Stepper) -> None:
    def wrong() -> None:
        step(Compile, "typed", source=7)
        step(Compile, "named", source="x", colour="red")
        late = step(Watch, "main", name="main").map(len)
        step(Compile, "late", source=late)
        step(Compile, "right", source="x")

    async with stepper.running(wrong):
        world.see("main", "a1")
        drawn = await stepper.drawn()
        assert "compile typed: failed cannot do compile typed: source: Expected `str`" in drawn
        assert "compile named: failed cannot do compile named: colour: there is no such" in drawn
        assert "compile late: failed cannot do compile late: Expected `str`" in drawn
        assert "compile right: running compile right" in drawn
        assert drawn.count("test_engine.py:") == 3


@stepped
async def test_a_collection_deploys_what_comes_and_lets_go_of_what_leaves(
    stepper: Stepper,
) -> None:
    def branches() -> None:
        names = step(Watch, "main", name="main").map(lambda text: dict.fromkeys(text.split(), ""))
        names.each(lambda name, _: step(Deploy, name, name=name, what="x"))

    async with stepper.running(branches) as engine:
        world.see("main", "a b")
        await stepper.quiet()
        assert engine.wanted("deploy") == {"a", "b"}
        world.finish("a=x", "ok")
        await stepper.quiet()
        world.see("main", "b c")
        await stepper.quiet()
        assert engine.wanted("deploy") == {"b", "c"}
        world.see("main", "c")
        await stepper.quiet()
        assert "b=x ended" in world.runs
    assert {one.key for one in stepper.published("deploy")} == {"a", "b", "c"}


@stepped
async def test_a_full_disk_is_shown_and_what_it_kept_from_being_done_can_be_done_later(
    stepper: Stepper,
) -> None:
    async with stepper.running(lambda: step(Compile, "x", source="x")) as engine:
        await stepper.quiet()
        (pages,) = stepper.connection.execute("PRAGMA page_count").fetchone()
        stepper.connection.execute(f"PRAGMA max_page_count = {pages}")
        world.finish("x", "binary" * 10_000)
        drawn = await stepper.drawn()
        assert "compile x: failed cannot record compile x: database or disk is full" in drawn
        stepper.connection.execute("PRAGMA max_page_count = 1000000")
        engine.rebuild(1)
        await stepper.quiet()
        world.finish("x", "binary" * 10_000)
        assert (await stepper.drawn()).startswith("compile x: ok binary")


@stepped
async def test_a_database_that_cannot_be_written_is_told_to_whoever_asks(
    stepper: Stepper,
) -> None:
    async with stepper.running(lambda: step(Compile, "x", source="x")) as engine:
        await stepper.quiet()
        world.finish("x", "binary")
        await stepper.quiet()
        stepper.connection.execute("PRAGMA query_only = 1")
        with pytest.raises(Failure, match="cannot rebuild job 1: attempt to write a readonly"):
            engine.rebuild(1)
        stepper.connection.execute("PRAGMA query_only = 0")


@stepped
async def test_a_latched_value_stays_whatever_blocks_the_next(stepper: Stepper) -> None:
    def latched() -> None:
        one, two = step(Watch, "one", name="one"), step(Watch, "two", name="two")
        parts = [step(Compile, str(number), source=head) for number, head in enumerate((one, two))]
        with policy(latched=True):
            step(Deploy, "site", name="site", what=gather(parts).map("+".join))

    async with stepper.running(latched):
        world.see("one", "a")
        world.see("two", "b")
        await stepper.quiet()
        world.finish("a", "A")
        world.finish("b", "B")
        await stepper.quiet()
        world.finish("site=A+B", "live")
        await stepper.quiet()
        world.see("two", "c")
        assert (await stepper.drawn()).endswith("ok live, behind it blocked on compile 1")
        world.finish("c", "C")
        world.see("one", "d")
        assert (await stepper.drawn()).endswith("ok live, behind it blocked on compile 0")
