"""Git repositories: a branch as it moves, and a revision that stays."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from mizzen.engine.graph import current
from mizzen.engine.job import Job
from mizzen.engine.operation import Build, Observation
from mizzen.engine.policy import Policy, Retry
from mizzen.engine.step import failed, step
from mizzen.engine.terms import Input, Mapped, Term, caller
from mizzen.model.duration import seconds
from mizzen.model.errors import Failure
from mizzen.sources import heads
from mizzen.sources.git import Commit
from mizzen.sources.repository import shown, understood

__all__ = ["Commit", "Source", "clone", "head"]


class Source(Mapped[Commit]):
    """A commit that is not known yet, as ``head`` and ``clone`` return it.

    Every step that takes a commit takes it; what a commit consists of is a term of its own.
    """

    __slots__ = ()

    def __init__(self, commit: Term[Commit]) -> None:
        super().__init__(current(), (commit,), _itself, "")

    @property
    def hash(self) -> Term[str]:
        """The commit's whole hash, in hex."""
        return self.map(lambda commit: commit.hash)

    @property
    def short(self) -> Term[str]:
        """The first 12 digits of the hash."""
        return self.map(lambda commit: commit.short)

    @property
    def message(self) -> Term[str]:
        """The commit's whole message."""
        return self.map(lambda commit: commit.message)

    @property
    def subject(self) -> Term[str]:
        """The first line of the commit's message."""
        return self.map(lambda commit: commit.message.partition("\n")[0])


class Head(Observation[Commit], frozen=True, kw_only=True):
    """Where a branch leads to."""

    id: ClassVar[str] = "git head"
    policy: ClassVar[Policy] = Policy(retry=Retry(delay=2.0, longest=30.0), latched=True)
    repository: str
    branch: str
    submodules: bool
    every: float

    async def observe(self, job: Job) -> AsyncGenerator[Commit, None]:
        """Yield the commit whenever it is another."""
        commits = heads.follow(
            self.repository,
            self.branch,
            submodules=self.submodules,
            every=self.every,
            folders=job.folders,
            clock=job.clock,
            log=job.log,
        )
        async with aclosing(commits):
            async for commit in commits:
                yield commit


class Clone(Build[Commit], frozen=True, kw_only=True):
    """The commit of a tag, or of a hash."""

    id: ClassVar[str] = "git clone"
    policy: ClassVar[Policy] = Policy(timeout=3600.0)
    repository: str
    tag: str
    commit: str
    submodules: bool

    async def run(self, job: Job) -> Commit:
        """Fetch it."""
        return await heads.fixed(
            self.repository,
            tag=self.tag,
            commit=self.commit,
            submodules=self.submodules,
            folders=job.folders,
        )


def head(
    repository: str | Path,
    branch: Input[str] = "main",
    *,
    submodules: bool = True,
    every: str | float = "1m",
) -> Source:
    """Return the commit that a branch leads to, and each that it leads to later.

    repository: a folder of this host, bare or not, relative to the pipeline's file; or the URL of
        another's: ``https://``, ``ssh://``, ``git://`` or ``user@host:path``. git finds
        credentials as it does elsewhere, but asks nobody.
    branch: its name.
    submodules: whether builds see what submodules hold, and theirs.
    every: how often another host is asked: "30s", "1m", or seconds. A folder of this host is
        watched instead. A webhook (``POST /webhooks/git``) has it asked at once.

    While a repository cannot be reached, the last commit stays.

        source = git.head("https://git.example.org/website.git", "main")
        image = docker.build(source, build_args={"VERSION": source.short})

    Fails, and tries again within 30 s, if the repository or the branch is gone, if git is not let
    in, or if the network is down.
    """
    label = _label(repository, branch)
    try:
        name = _understood(repository)
        pause = seconds(every)
    except (Failure, ValueError) as error:
        return Source(failed(f"{Head.id} {label}", _told(label, error)))
    inputs = {"branch": branch, "submodules": submodules, "every": pause}
    return Source(step(Head, label, repository=name, **inputs))


def clone(
    repository: str | Path,
    *,
    tag: Input[str] = "",
    commit: Input[str] = "",
    submodules: bool = True,
) -> Source:
    """Return one commit that stays: that of a tag, or the one of a hash.

    repository, submodules: as of ``head``. tag: its name; it is looked up once, so one that is
    moved later is not noticed (but see ``policy(valid_for=...)``). commit: a whole hash, in hex.

        tools = git.clone("https://git.example.org/tools.git", tag="v1.2")

    Fails if there is no such repository, tag or commit, or if git is not let in.
    """
    label = _label(repository, tag if not isinstance(tag, str) else tag or commit)
    try:
        name = _understood(repository)
        if isinstance(tag, str) and isinstance(commit, str):
            heads.check_revision(tag, commit, _what(label))
    except Failure as error:
        return Source(failed(f"{Clone.id} {label}", _told(label, error)))
    inputs = {"tag": tag, "commit": commit, "submodules": submodules}
    return Source(step(Clone, label, repository=name, **inputs))


def _itself(commit: Commit) -> Commit:
    return commit


def _label(repository: str | Path, revision: Input[str]) -> str:
    name = shown(str(repository))
    return name if isinstance(revision, Term) else f"{name} {revision}"


def _understood(repository: str | Path) -> str:
    return understood(str(repository), Path(caller().file).absolute().parent)


def _what(label: str) -> str:
    return f"cannot follow {label}"


def _told(label: str, error: Exception) -> Failure:
    """Return an error of an argument with the line to mend."""
    if isinstance(error, Failure):
        what, why, fix = error.what, error.why, error.fix
    else:
        what, why, fix = _what(label), str(error), ""
    return Failure(what, why, "; ".join(filter(None, (fix, f"mend {caller()}"))))
