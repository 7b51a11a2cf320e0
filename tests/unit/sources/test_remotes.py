"""Repositories of other hosts, by ssh and HTTPS, with who may enter and who is believed."""

import asyncio
import shlex

import pytest
import ssh_server
import trustme
from manual_clock import ManualClock
from repositories import Repository, serving

from mizzen.engine.operation import TemporaryFailure
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import silent
from mizzen.sources import heads
from mizzen.sources.git import Commit, checkout


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "state", tmp_path / "runtime")


@pytest.fixture
def website(tmp_path):
    """A repository with a submodule beside it, which it names by a relative URL."""
    inner = Repository(tmp_path / "served" / "inner")
    inner.commit(i="inner")
    website = Repository(tmp_path / "served" / "website")
    website.include(inner.path, "inner")
    website("config", "--file=.gitmodules", "submodule.inner.url", "../inner")
    website.commit("first", page="1")
    return website


@pytest.fixture
def server(website, tmp_path):
    (tmp_path / "keys").mkdir()
    with ssh_server.serving(website.path.parent, tmp_path / "keys") as serving:
        yield serving


def head(url, folders):
    """Return the commit that a branch leads to."""

    async def scenario():
        commits = heads.follow(
            url, "main", submodules=True, every=60.0,
            folders=folders, clock=ManualClock(), log=lambda _: None,
        )  # fmt: skip
        try:
            return await anext(commits)
        finally:
            await commits.aclose()

    return asyncio.run(scenario())


def files(commit: Commit, folders):
    place = asyncio.run(checkout(commit, folders, silent))
    return {path.name: path.read_text() for path in place.rglob("*") if path.name in {"page", "i"}}


def test_a_branch_is_followed_over_ssh_with_submodules(website, server, folders, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command())
    commit = head(server.url("website"), folders)
    assert (commit.hash, commit.message) == (website("rev-parse", "HEAD"), "first")
    assert files(commit, folders) == {"page": "1", "i": "inner"}
    paths = {shlex.split(command)[1] for command in server.asked}
    assert paths == {"/website", "/inner"}


def test_host_colon_path_is_ssh_too(website, server, folders, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{server.command()} -p {server.port}")
    commit = head("git@127.0.0.1:website", folders)
    assert commit.hash == website("rev-parse", "HEAD")
    assert files(commit, folders) == {"page": "1", "i": "inner"}


@pytest.mark.parametrize(
    ("who", "name", "told"),
    [
        ({"known": False}, "website", "its host is not known to ssh; connect to it once with ssh"),
        ({"allowed": False}, "website", "it does not let this user in; give git credentials"),
        ({}, "none", "there is no repository; see that its name is right"),
    ],
)
def test_what_ssh_refuses_is_told_and_nobody_is_asked(
    server, folders, monkeypatch, who, name, told
):
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command(**who))
    with pytest.raises(Failure, match=told) as failure:
        head(server.url(name), folders)
    assert not isinstance(failure.value, TemporaryFailure)
    assert "git@" not in str(failure.value)


def test_a_connection_that_breaks_is_temporary(server, folders, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command())
    server.hangs_up = True
    with pytest.raises(TemporaryFailure, match="closed by remote host; see that its host can be"):
        head(server.url("website"), folders)
    server.hangs_up = False
    assert head(server.url("website"), folders).message == "first"


def test_https_is_believed_by_its_certificate(website, folders, monkeypatch, tmp_path):
    authority = trustme.CA()
    with serving(website.path.parent, authority.issue_cert("127.0.0.1")) as server:
        url = server.url("website")
        assert url.startswith("https://")
        with pytest.raises(Failure, match="certificate"):
            head(url, folders)
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "authority.pem"))
        commit = head(url, folders)
        assert commit.hash == website("rev-parse", "HEAD")
        assert files(commit, folders) == {"page": "1", "i": "inner"}
