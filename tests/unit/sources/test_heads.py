import asyncio
import contextlib
import os
import shutil
from pathlib import Path

import pytest
from manual_clock import ManualClock
from repositories import Repository, serving

from mizzen.engine.operation import TemporaryFailure
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import silent
from mizzen.sources import heads
from mizzen.sources.git import checkout
from mizzen.sources.poke import poke


class Clock(ManualClock):
    """Tells when somebody begins to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Event()

    async def sleep(self, seconds):
        self.asleep.set()
        await super().sleep(seconds)


class Following:
    """One who follows a branch."""

    def __init__(self, tmp_path, repository, branch="main"):
        self.clock = Clock()
        self.lines = []
        self.folders = Folders(tmp_path / "state", tmp_path / "runtime")
        self.commits = heads.follow(
            str(repository), branch, submodules=True, every=60.0, clock=self.clock,
            folders=self.folders, log=self.lines.append,
        )  # fmt: skip

    async def next(self):
        return await anext(self.commits)

    async def nothing_yet(self):
        """Return a task that waits for the next commit, once it waits for the clock."""
        self.clock.asleep.clear()
        task = asyncio.create_task(self.next())
        await self.clock.asleep.wait()
        assert not task.done()
        return task


@contextlib.asynccontextmanager
async def following(tmp_path, repository, branch="main"):
    one = Following(tmp_path, repository, branch)
    try:
        yield one
    finally:
        await one.commits.aclose()


def run(scenario):
    asyncio.run(scenario)


def test_a_branch_of_this_host_is_followed_through_loose_and_packed_refs(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit("one\n\nwith a body", a="1")

    async def scenario():
        async with following(tmp_path, website.path) as branch:
            commit = await branch.next()
            assert (commit.hash, commit.message) == (first, "one\n\nwith a body")
            assert commit.short == first[:12]
            assert (commit.repository, commit.branch) == (str(website.path), "main")
            website("pack-refs", "--all")
            second = website.commit(a="2")
            assert (await branch.next()).hash == second
            website("pack-refs", "--all")
            website("reset", "--quiet", "--hard", first)  # back, by force
            assert (await branch.next()).hash == first

    run(scenario())


def test_a_push_to_a_bare_repository_is_seen_on_a_branch_with_a_slash(tmp_path):
    work = Repository(tmp_path / "work")
    work.commit(a="1")
    work("init", "--quiet", "--bare", tmp_path / "website.git")
    work("push", "--quiet", tmp_path / "website.git", "HEAD:refs/heads/fix/one")

    async def scenario():
        async with following(tmp_path, tmp_path / "website.git", "fix/one") as branch:
            await branch.next()
            second = work.commit(a="2")
            work("push", "--quiet", tmp_path / "website.git", "HEAD:refs/heads/fix/one")
            assert (await branch.next()).hash == second

    run(scenario())


def test_a_work_tree_beside_its_repository_is_followed(tmp_path):
    website = Repository(tmp_path / "website")
    website.commit(a="1")
    website("worktree", "add", "--quiet", "-b", "other", tmp_path / "other")

    async def scenario():
        async with following(tmp_path, tmp_path / "other") as branch:
            await branch.next()
            second = website.commit(a="2")
            assert (await branch.next()).hash == second

    run(scenario())


def test_another_host_is_asked_when_its_time_comes_or_somebody_pokes(tmp_path):
    website = Repository(tmp_path / "website")
    website.commit(a="1")

    async def scenario():
        with serving(tmp_path) as server:
            url = server.url("website")
            async with following(tmp_path, url) as branch:
                await branch.next()
                task = await branch.nothing_yet()
                second = website.commit(a="2")
                branch.clock.pass_(60)
                assert (await task).hash == second
                task = await branch.nothing_yet()
                third = website.commit(a="3")
                assert poke(f"{url}.git/") == 1
                assert poke("https://127.0.0.1/another") == 0
                assert (await task).hash == third
            assert poke(url) == 0

    run(scenario())


def test_a_host_that_does_not_answer_is_temporary_and_then_what_was_last_holds(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit(a="1")

    async def scenario():
        with serving(tmp_path) as server:
            url = server.url("website")
            server.status = 503
            async with following(tmp_path, url) as branch:
                with pytest.raises(TemporaryFailure, match="returned error: 503"):
                    await branch.next()
            server.status = 200
            async with following(tmp_path, url) as branch:
                await branch.next()
                task = await branch.nothing_yet()
                website.commit(a="2")
                branch.clock.pass_(60)
                await task
                task = await branch.nothing_yet()
                website("reset", "--quiet", "--hard", first)
                branch.clock.pass_(60)
                assert (await task).hash == first
                task = await branch.nothing_yet()
                server.status = 502
                branch.clock.pass_(60)
                with pytest.raises(TemporaryFailure, match="502"):
                    await task
            async with following(tmp_path, url) as branch:  # as after a restart
                assert (await branch.next()).hash == first
                assert "it is taken to be as it was" in branch.lines[0]
                task = await branch.nothing_yet()
                server.status = 200
                third = website.commit(a="3")
                branch.clock.pass_(60)
                assert (await task).hash == third

    run(scenario())


def test_a_server_of_plain_files_is_followed_too(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit(a="1")
    website("update-server-info")

    async def scenario():
        with serving(tmp_path) as server:
            server.plain = True
            async with following(tmp_path, server.url("website/.git")) as branch:
                assert (await branch.next()).hash == first

    run(scenario())


@pytest.mark.parametrize(
    ("branch", "told"),
    [
        ("mian", "it has no branch mian; did you mean main?"),
        ("zzz", "it has no branch zzz; it has dev, main"),
        ("a..b", "'a..b' can be no name of a branch or tag"),
        ("--upload-pack=x", "it has no branch --upload-pack=x"),
        ("ma*", "can be no name"),
    ],
)
def test_a_branch_that_is_not_there_is_told_with_those_that_are(tmp_path, branch, told):
    website = Repository(tmp_path / "website")
    website.commit(a="1")
    website("branch", "dev")
    fails(tmp_path, website.path, told, branch)


def fails(tmp_path, repository, told, branch="main", kind=Failure):
    async def scenario():
        async with following(tmp_path, repository, branch) as one:
            with pytest.raises(Failure) as failure:
                await one.next()
            assert told in str(failure.value)
            assert type(failure.value) is kind

    run(scenario())


def test_what_is_no_repository_is_told_so(tmp_path):
    fails(tmp_path, tmp_path / "nothing", "there is no repository")
    (tmp_path / "folder").mkdir()
    fails(tmp_path, tmp_path / "folder", "there is no repository")
    work = Repository(tmp_path / "work")
    fails(tmp_path, work.path, "it has no branch yet; push main to it")
    (work.path / "inside").mkdir()
    fails(tmp_path, work.path / "inside", "there is no repository")


def test_a_repository_that_goes_is_told_when_it_does(tmp_path):
    website = Repository(tmp_path / "website")
    website.commit(a="1")

    async def scenario():
        async with following(tmp_path, website.path) as branch:
            await branch.next()
            task = asyncio.create_task(branch.next())
            shutil.rmtree(website.path)
            with pytest.raises(Failure, match="there is no repository"):
                await task

    run(scenario())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_of_another_user_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    website = Repository(tmp_path / "website")
    website.commit(a="1")
    for folder, _, files in os.walk(website.path):
        for name in ("", *files):
            os.chown(Path(folder, name), 12345, 12345)
    fails(tmp_path, website.path, f"run: git config --global --add safe.directory {website.path}")


def test_a_server_that_wants_a_password_is_not_waited_for_and_its_secret_not_told(tmp_path):
    Repository(tmp_path / "website").commit(a="1")
    with serving(tmp_path) as server:
        url = server.url("website")
        server.status = 401
        fails(tmp_path, url, "it does not let this user in")
        server.status = 403
        fails(tmp_path, url, "it does not let this user in")
        server.status = 500
        secret = url.replace("http://", "http://me:secret@")

        async def scenario():
            async with following(tmp_path, secret) as one:
                with pytest.raises(TemporaryFailure) as failure:
                    await one.next()
            told = str(failure.value) + "".join(failure.value.__notes__)
            assert "500" in told
            assert "secret" not in told

        run(scenario())


def test_nobody_at_a_port_is_temporary(tmp_path):
    for scheme in ("http", "git", "ssh"):
        url = f"{scheme}://127.0.0.1:1/website"
        fails(tmp_path, url, "see that its host can be reached", kind=TemporaryFailure)


def test_tags_and_hashes_are_cloned_as_they_are(tmp_path):
    website = Repository(tmp_path / "website")
    first = website.commit("one", a="1")
    website("tag", "light")
    website("tag", "--annotate", "heavy", "--message=a release")
    website.commit(a="2")
    folders = Folders(tmp_path / "state", tmp_path / "runtime")

    def clone(url, **revision):
        given = {"tag": "", "commit": "", **revision}
        return asyncio.run(heads.fixed(url, **given, submodules=False, folders=folders))

    with serving(tmp_path) as server:
        for url in (str(website.path), server.url("website")):
            for revision in ({"tag": "light"}, {"tag": "heavy"}, {"commit": first}):
                commit = clone(url, **revision)
                assert (commit.hash, commit.message, commit.branch) == (first, "one", "")
            with pytest.raises(Failure, match="it has no tag haevy; did you mean heavy"):
                clone(url, tag="haevy")
            with pytest.raises(Failure, match="it has no such commit"):
                clone(url, commit="12" * 20)
        asked = server.asked
        clone(server.url("website"), commit=first)
        assert server.asked == asked  # it is here
    for wrong in ({"commit": first[:12]}, {}, {"tag": "light", "commit": first}):
        with pytest.raises(Failure, match=r"no whole hash|either a tag or a commit"):
            clone(str(website.path), **wrong)


def test_what_a_hook_has_in_its_environment_is_not_taken_for_the_repository(tmp_path, monkeypatch):
    other, website = Repository(tmp_path / "other"), Repository(tmp_path / "website")
    other.commit("other", a="1")
    wanted = website.commit(a="2")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")

    async def scenario():
        async with following(tmp_path, website.path) as branch:
            commit = await branch.next()
            assert commit.hash == wanted
            folder = await checkout(commit, branch.folders, silent)
            assert (folder / "a").read_text() == "2"

    run(scenario())
