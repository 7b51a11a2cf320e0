import asyncio
import contextlib
import shutil

import pytest
from manual_clock import ManualClock

from mizzen.model.errors import Failure
from mizzen.sources import folder


class Clock(ManualClock):
    """Tells when somebody begins to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()

    async def sleep(self, seconds):
        self.asleep.set()
        await super().sleep(seconds)


@contextlib.asynccontextmanager
async def following(path):
    clock = Clock()
    folders = folder.follow(path, clock)
    try:
        yield clock, folders
    finally:
        await folders.aclose()


async def rested(clock, task):
    """Return what a task comes to when time passes in which nothing changes."""

    async def wind():
        while True:
            await clock.asleep.wait()
            clock.asleep.clear()
            clock.pass_(folder.QUIET)

    clock.asleep.set()
    winding = asyncio.create_task(wind())
    try:
        return await task
    finally:
        winding.cancel()


def test_a_folder_is_told_again_when_something_in_it_is_another(tmp_path):
    site = tmp_path / "site"
    (site / "a").mkdir(parents=True)
    (site / "a" / "x").write_text("1")

    def new_folders():
        (site / "b" / "c").mkdir(parents=True)
        (site / "b" / "c" / "y").write_text("1")

    async def scenario():
        async with following(site) as (clock, folders):
            seen = [await anext(folders)]
            for act in (
                lambda: (site / "a" / "x").write_text("2"),
                lambda: (site / "a" / "x").chmod(0o755),
                new_folders,
                lambda: (site / "b" / "c" / "y").write_text("2"),
                lambda: (site / "b").rename(site / "d"),
                lambda: shutil.rmtree(site / "d"),
            ):
                task = asyncio.create_task(anext(folders))
                await asyncio.sleep(0)
                act()
                seen.append(await rested(clock, task))
            assert [one.path for one in seen] == [site] * len(seen)
            digests = [one.digest for one in seen]
            assert digests[-1] == digests[2]  # what came has gone
            assert len(set(digests)) == len(digests) - 1

    asyncio.run(scenario())


def test_a_folder_that_is_being_written_is_told_once_it_rests(tmp_path):
    async def scenario():
        async with following(tmp_path) as (clock, folders):
            first = await anext(folders)
            task = asyncio.create_task(anext(folders))
            await asyncio.sleep(0)
            for number in range(3):
                (tmp_path / "x").write_text(str(number))
                await clock.asleep.wait()
                clock.asleep.clear()
                clock.pass_(folder.QUIET / 2)  # which is not long enough
                assert not task.done()
            assert (await rested(clock, task)).digest != first.digest

    asyncio.run(scenario())


def test_what_git_keeps_for_itself_is_not_looked_at(tmp_path):
    async def scenario():
        async with following(tmp_path) as (_, folders):
            before = await anext(folders)
            (tmp_path / ".git").mkdir()
            (tmp_path / ".git" / "index").write_text("x")
        async with following(tmp_path) as (_, folders):
            assert await anext(folders) == before

    asyncio.run(scenario())


def test_a_folder_that_is_not_there_or_goes_is_told(tmp_path):
    async def scenario():
        site = tmp_path / "site"
        async with following(site) as (_, folders):
            with pytest.raises(Failure, match="there is no such folder"):
                await anext(folders)
        site.mkdir()
        for act in (lambda: site.rename(tmp_path / "elsewhere"), site.rmdir):
            site.mkdir(exist_ok=True)
            async with following(site) as (clock, folders):
                await anext(folders)
                task = asyncio.create_task(anext(folders))
                await asyncio.sleep(0)
                act()
                with pytest.raises(Failure, match="there is no such folder"):
                    await rested(clock, task)

    asyncio.run(scenario())
