"""Plans: what would change, told without changing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from stepping import Compile, Deploy, Stepper, Watch, world

from mizzen.engine.pipeline import Pipeline
from mizzen.engine.planning import plan
from mizzen.engine.step import step
from mizzen.model.errors import Failure
from mizzen.store.database import MIGRATIONS, connect, connect_to_read


class Image(Compile, frozen=True, kw_only=True):
    id: ClassVar[str] = "image"
    noun: ClassVar[str] = "image"


class Port(Deploy, frozen=True, kw_only=True):
    id: ClassVar[str] = "port"
    noun: ClassVar[str] = "port"


def site() -> None:
    head = step(Watch, "main", name="main")
    step(Port, "site", name="site", what=step(Image, "site", source=head))


def other() -> None:
    step(Port, "other", name="other", what="x")


async def deployed(stepper: Stepper, function: Callable[[], object] = site) -> None:
    async with stepper.running(function):
        await stepper.quiet()
        for name in list(world.running):
            world.finish(name, f"{name} made")
            await stepper.quiet()
        for name in list(world.running):
            world.finish(name, f"{name} made")
            await stepper.quiet()


def planned(stepper: Stepper, *functions: Callable[[], object]) -> list[str]:
    """Return a plan's lines; fail if making it changed the database or had anything done."""
    before, runs = "\n".join(stepper.connection.iterdump()), list(world.runs)

    async def run() -> list[str]:
        graphs = [Pipeline(function).build() for function in functions]
        with closing(connect_to_read(stepper.folders.database)) as connection:
            found = await plan(graphs, connection, stepper.folders, stepper.clock)
        return [f"{one.label}: {one.change} {one.why}".strip() for one in found]

    lines = asyncio.run(run())
    assert "\n".join(stepper.connection.iterdump()) == before
    assert world.runs == runs
    return lines


def see(commit: str | Exception) -> None:
    """Have the next one who looks see a commit, or an error."""
    world.seen.clear()
    world.see("main", commit)


def test_at_first_all_would_be_made_and_what_follows_may_change(stepper: Stepper) -> None:
    see("a1")
    assert planned(stepper, site) == [
        "image site: would be made",
        "port site: may change depends on image site",
    ]


def test_what_is_so_already_stays(stepper: Stepper) -> None:
    see("a1")
    asyncio.run(deployed(stepper))
    see("a1")
    assert planned(stepper, site) == ["image site: stays", "port site: stays"]


def test_what_another_pipeline_has_made_stays_and_stays_that_ones(stepper: Stepper) -> None:
    def shop() -> None:
        site()

    see("a1")
    asyncio.run(deployed(stepper))
    see("a1")
    assert planned(stepper, shop) == ["image site: stays", "port site: stays"]


def test_a_new_commit_would_be_built_and_a_key_set_anew(stepper: Stepper) -> None:
    see("a1")
    asyncio.run(deployed(stepper))
    see("b2")
    assert planned(stepper, site)[0] == "image site: would be made"

    def changed() -> None:
        step(Port, "site", name="site", what="other")

    assert planned(stepper, lambda: None) == []
    changed.__name__ = "site"
    assert planned(stepper, changed) == ["port site: would be set anew"]


def test_what_no_longer_holds_would_be_made_again(stepper: Stepper) -> None:
    see("a1")
    asyncio.run(deployed(stepper))
    see("a1")
    world.holds = False
    assert planned(stepper, site)[0] == "image site: would be made"


def test_a_key_that_no_step_names_any_more_is_told(stepper: Stepper) -> None:
    asyncio.run(deployed(stepper, other))

    def renamed() -> None:
        step(Port, "new", name="new", what="x")

    renamed.__name__ = "other"
    assert planned(stepper, renamed) == ["port new: would be set", "port other: is wanted no more"]


def test_a_failure_is_told_at_its_step_and_what_depends_on_it(stepper: Stepper) -> None:
    see(Failure("cannot look", "it is gone", "bring it back"))
    assert planned(stepper, site) == [
        "watch main: fails cannot look: it is gone; bring it back",
        "image site: may change depends on watch main",
        "port site: may change depends on watch main",
    ]


def test_a_name_that_is_used_twice_is_told(stepper: Stepper) -> None:
    def twice() -> None:
        step(Port, "one", name="same", what="1")
        step(Port, "two", name="same", what="2")

    first, second = planned(stepper, twice)
    assert first == "port one: would be set"
    assert second.startswith("port two: fails cannot do port two:")


def test_a_database_is_read_that_is_missing_or_older(tmp_path: Path) -> None:
    with closing(connect_to_read(tmp_path / "none.db")) as connection:
        assert connection.execute("SELECT count(*) FROM job").fetchone() == (0,)
    assert not (tmp_path / "none.db").exists()
    old = tmp_path / "old.db"
    connect(old, MIGRATIONS[:2]).close()
    with closing(connect_to_read(old)) as connection:
        assert connection.execute("SELECT count(*) FROM job").fetchone() == (0,)
    with closing(connect(old, MIGRATIONS[:2])) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
