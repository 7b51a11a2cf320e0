import asyncio
import os
import time
from pathlib import Path

import pytest
from repositories import Repository, serving

from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import silent
from mizzen.sources import git
from mizzen.sources.git import Commit, checkout


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "state", tmp_path / "runtime")


def commit_of(repository, hash_, *, submodules=True):
    name = str(repository)
    return Commit(repository=name, branch="", hash=hash_, message="", submodules=submodules)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".gitmodules"
    }


def out(commit, folders):
    return asyncio.run(checkout(commit, folders, silent))


def test_a_checkout_has_the_files_of_that_commit_with_their_modes_and_links(tmp_path, folders):
    website = Repository(tmp_path / "website")
    (website.path / "run").write_text("#!/bin/sh\n")
    (website.path / "run").chmod(0o755)
    (website.path / "link").symlink_to("run")
    first = website.commit(a="1")
    website.commit(a="2")
    folder = out(commit_of(website.path, first), folders)
    assert (folder / "a").read_text() == "1"
    assert os.access(folder / "run", os.X_OK)
    assert (folder / "link").readlink() == Path("run")
    assert not (folder / ".git").exists()
    assert out(commit_of(website.path, first), folders) == folder


def test_a_commit_stays_to_be_had_when_its_branch_has_left_it(tmp_path, folders):
    website = Repository(tmp_path / "website")
    first = website.commit(a="1")
    out(commit_of(website.path, first), folders)
    second = website.commit(a="2")
    out(commit_of(website.path, second), folders)
    website("reset", "--quiet", "--hard", first)
    website("reflog", "expire", "--all", "--expire=now")
    website("gc", "--quiet", "--prune=now")
    for place in (folders.cache / "git" / "checkouts").iterdir():
        if place.is_dir():
            os.utime(place, (0, 0))
    third = website.commit(a="3")
    out(commit_of(website.path, third), folders)  # collects what is old
    assert files(out(commit_of(website.path, second), folders)) == {"a": "2"}


def test_submodules_and_theirs_lie_in_their_places(tmp_path, folders):
    inner = Repository(tmp_path / "all" / "inner")
    inner.commit(i="inner")
    outer = Repository(tmp_path / "all" / "outer")
    outer.include("../inner", "in/ner")
    outer.commit(o="outer")
    website = Repository(tmp_path / "all" / "website")
    website.include(outer.path, "vendor/outer")
    commit = website.commit(a="1")
    outer.commit(o="newer")  # the commit in the link counts, not the branch
    wanted = {"a": "1", "vendor/outer/o": "outer", "vendor/outer/in/ner/i": "inner"}
    assert files(out(commit_of(website.path, commit), folders)) == wanted
    without = commit_of(website.path, commit, submodules=False)
    assert files(out(without, folders)) == {"a": "1"}


def test_submodules_of_another_host_are_fetched_from_where_they_say(tmp_path, folders):
    inner = Repository(tmp_path / "served" / "inner")
    inner.commit(i="inner")
    website = Repository(tmp_path / "served" / "website")
    website.include(inner.path, "inner")
    website("config", "--file=.gitmodules", "submodule.inner.url", "../inner")
    commit = website.commit(a="1")
    with serving(tmp_path / "served") as server:
        folder = out(commit_of(server.url("website"), commit), folders)
    assert files(folder) == {"a": "1", "inner/i": "inner"}


@pytest.mark.parametrize("home", ["local", "remote"])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/{elsewhere}", "a commit may not choose a folder of this host"),
        ("ext::sh -c touch% {elsewhere}/ran", "it would run the program git-remote-ext"),
    ],
)
def test_a_commit_does_not_choose_what_is_run_or_read_here(tmp_path, folders, home, url, told):
    elsewhere = Repository(tmp_path / "elsewhere" / "secret")
    elsewhere.commit(s="secret")
    website = Repository(tmp_path / "served" / "website")
    website.include(elsewhere.path, "sub")
    place = url.format(elsewhere=str(elsewhere.path).lstrip("/"))
    website("config", "--file=.gitmodules", "submodule.sub.url", place)
    commit = website.commit(a="1")
    with serving(tmp_path / "served") as server:
        name = website.path if home == "local" else server.url("website")
        with pytest.raises(Failure) as failure:
            out(commit_of(name, commit), folders)
    assert told in str(failure.value)
    assert not (elsewhere.path / "ran").exists()


def test_a_link_without_a_url_is_told(tmp_path, folders):
    website = Repository(tmp_path / "website")
    commit = website.commit(a="1")
    website("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    website("commit", "--quiet", "--message=a link")
    wanted = commit_of(website.path, website("rev-parse", "HEAD"))
    with pytest.raises(Failure, match=r"\.gitmodules has no url for sub; mend it, or give"):
        out(wanted, folders)


def test_hooks_are_not_run_and_attributes_run_nothing(tmp_path, folders, monkeypatch):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-$(basename $0)\n")
        (hooks / name).chmod(0o755)
    website = Repository(tmp_path / "website")
    commit = website.commit(a="1", __gitattributes="* filter=evil\n")
    (tmp_path / "config").write_text(f"[core]\n\thooksPath = {hooks}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    assert files(out(commit_of(website.path, commit), folders))["a"] == "1"
    assert not list(tmp_path.glob("ran-*"))


def test_what_a_killed_git_left_does_not_keep_the_next_from_fetching(tmp_path, folders):
    website = Repository(tmp_path / "website")
    out(commit_of(website.path, website.commit(a="1")), folders)
    (mirror,) = (folders.cache / "git" / "mirrors").glob("*/")
    (ref,) = (mirror / "refs" / "fetched").iterdir()
    for name in ("shallow.lock", "packed-refs.lock", f"refs/fetched/{ref.name}.lock"):
        (mirror / name).touch()
    checkouts = folders.cache / "git" / "checkouts"
    (checkouts / ".new-of-a-dead-one").mkdir()
    assert files(out(commit_of(website.path, website.commit(a="2")), folders)) == {"a": "2"}
    assert not list(checkouts.glob(".new-*"))


def test_old_checkouts_and_mirrors_are_collected_and_those_in_use_stay(tmp_path, folders):
    one, two = Repository(tmp_path / "one"), Repository(tmp_path / "two")
    old = out(commit_of(one.path, one.commit(a="1")), folders)
    new = out(commit_of(one.path, one.commit(a="2")), folders)
    past = time.time() - git.KEPT - 1
    os.utime(old, (past, past))
    os.utime(new, (past, past))
    (mirror,) = (folders.cache / "git" / "mirrors").glob("*/")
    long_ago = time.time() - git.MIRROR_KEPT - 1
    os.utime(mirror, (long_ago, long_ago))
    assert out(commit_of(one.path, one("rev-parse", "HEAD")), folders) == new  # asked for again
    out(commit_of(two.path, two.commit(a="1")), folders)
    assert not old.exists()
    assert new.exists()
    assert not mirror.exists()
    assert files(out(commit_of(one.path, one("rev-parse", "HEAD^")), folders)) == {"a": "1"}


def test_a_fetch_that_is_cancelled_ends_its_processes(tmp_path, folders):
    async def scenario():
        connected, gone = asyncio.Event(), asyncio.Event()

        async def never_answer(reader, writer):
            connected.set()
            await reader.read()  # to its end, which comes with the client's
            gone.set()
            writer.close()

        server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wanted = commit_of(f"http://127.0.0.1:{port}/website", "12" * 20)
        task = asyncio.create_task(checkout(wanted, folders, silent))
        await connected.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await gone.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())
