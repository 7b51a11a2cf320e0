"""Which commit a branch or a tag leads to, now and whenever that changes."""

from __future__ import annotations

import difflib
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from mizzen.engine.job import Clock
from mizzen.engine.operation import TemporaryFailure
from mizzen.host.changes import Changes
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure

from .command import git
from .git import Commit
from .mirror import Mirror, Revision
from .poke import listening
from .repository import is_ref, local, shown
from .waiting import either

ASK_SECONDS = 60.0
"""How long a repository may take to say where a branch leads to."""

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

NAMES_MAX = 10
"""Branches that are named where one is missing."""


async def follow(
    repository: str,
    branch: str,
    *,
    submodules: bool,
    every: float,
    folders: Folders,
    clock: Clock,
    log: Callable[[str], None],
) -> AsyncGenerator[Commit, None]:
    """Yield the commit that a branch leads to, and again when that is another.

    repository: as ``repository.understood`` returns it. A folder of this host is watched; any
    other is asked ``every`` so many seconds, and when it is poked.
    Raises Failure and TemporaryFailure. A repository that cannot be reached at first is taken to
    be as it was last.
    """
    _check(branch, _following(branch, repository))
    here = local(repository)
    mirror = Mirror(repository, folders)
    revisions = (
        _watched(mirror, branch, here)
        if here is not None
        else _polled(mirror, branch, every, clock, log)
    )
    last = ""
    async with aclosing(revisions):
        async for revision in revisions:
            if revision.hash != last:
                last = revision.hash
                log(f"{branch} of {shown(repository)} is at {last}")
                yield Commit(
                    repository=repository,
                    branch=branch,
                    hash=revision.hash,
                    message=revision.message,
                    submodules=submodules,
                )


async def fixed(
    repository: str, *, tag: str, commit: str, submodules: bool, folders: Folders
) -> Commit:
    """Return the commit of a tag, or of a whole hash where ``tag`` is "".

    Raises Failure and TemporaryFailure.
    """
    what = f"cannot clone {tag or commit[:12]} of {shown(repository)}"
    check_revision(tag, commit, what)
    ref = ""
    if tag:
        ref = f"refs/tags/{tag}"
        _check(tag, what)
        found = await _listed(repository, ref, f"{ref}^{{}}", what=what)
        commit = found.get(f"{ref}^{{}}", found.get(ref, ""))
        if not commit:
            raise await _missing("tag", tag, repository, what)
    revision = await Mirror(repository, folders).fetch(ref, commit)
    return Commit(
        repository=repository,
        branch="",
        hash=revision.hash,
        message=revision.message,
        submodules=submodules,
    )


def check_revision(tag: str, commit: str, what: str) -> None:
    """Raise Failure unless there is either a tag or a whole hash."""
    if bool(tag) == bool(commit):
        raise Failure(what, "it takes either a tag or a commit", "give one of them")
    if commit and not _HASH.fullmatch(commit):
        why = f"{commit!r} is no whole hash"
        raise Failure(what, why, "give all digits, as git rev-parse prints them")


async def _watched(mirror: Mirror, branch: str, folder: Path) -> AsyncGenerator[Revision, None]:
    """Yield what a branch of a repository of this host leads to after each change to its refs."""
    common = await _common(mirror.repository, folder, branch)
    with Changes() as changes:
        while True:
            changes.any.clear()
            # A ref is a file of its own, or a line of packed-refs, or in a reftable.
            changes.watch(common)
            changes.watch(common / "reftable")
            place = common / "refs" / "heads"
            changes.watch(place)
            for part in branch.split("/")[:-1]:
                place /= part
                changes.watch(place)
            yield await _look(mirror, branch)
            await changes.any.wait()


async def _common(repository: str, folder: Path, branch: str) -> Path:
    """Return where a repository's refs are: in .git, or another place if it is a work tree."""
    what = _following(branch, repository)
    ask = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    said = await git("-C", folder, *ask, what=what, repository=repository)
    return Path(said.decode(errors="surrogateescape").rstrip("\n"))


async def _polled(
    mirror: Mirror, branch: str, every: float, clock: Clock, log: Callable[[str], None]
) -> AsyncGenerator[Revision, None]:
    known = False
    with listening(mirror.repository) as poked:
        while True:
            poked.clear()
            try:
                revision = await _look(mirror, branch)
            except TemporaryFailure as failure:
                last = None if known else await mirror.last(f"refs/heads/{branch}")
                if last is None:
                    raise
                log(f"{failure}; meanwhile it is taken to be as it was")
                revision = last
            known = True
            yield revision
            await either(poked, clock.sleep(every))


async def _look(mirror: Mirror, branch: str) -> Revision:
    repository = mirror.repository
    what = _following(branch, repository)
    ref = f"refs/heads/{branch}"
    found = await _listed(repository, ref, what=what)
    if ref not in found:
        raise await _missing("branch", branch, repository, what)
    return await mirror.fetch(ref, found[ref])


def _check(name: str, what: str) -> None:
    """Raise Failure for a name that no ref can have, and that git may take for a pattern."""
    if not is_ref(name):
        why = f"{name!r} can be no name of a branch or tag"
        raise Failure(what, why, "see git-check-ref-format(1)")


async def _listed(repository: str, *refs: str, what: str) -> dict[str, str]:
    """Return the hashes that a repository has for these refs; for all if none is named."""
    ask = ("ls-remote", "--quiet", "--", repository, *refs)
    said = await git(*ask, what=what, repository=repository, limit=ASK_SECONDS)
    pairs = [line.split("\t", 1) for line in said.decode(errors="replace").splitlines()]
    return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}


async def _missing(kind: str, name: str, repository: str, what: str) -> Failure:
    """Return what is told of a branch or tag that is not there: which are."""
    start = {"branch": "refs/heads/", "tag": "refs/tags/"}[kind]
    refs = await _listed(repository, what=what)
    names = [ref.removeprefix(start) for ref in refs if ref.startswith(start) and "^" not in ref]
    if not names:
        nothing = {"branch": "no branch yet", "tag": "no tag yet"}[kind]
        return Failure(what, f"it has {nothing}", f"push {name} to it")
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        fix = f"did you mean {' or '.join(near)}?"
    else:
        fix = f"it has {', '.join(names[:NAMES_MAX])}{', ...' if len(names) > NAMES_MAX else ''}"
    return Failure(what, f"it has no {kind} {name}", fix)


def _following(branch: str, repository: str) -> str:
    return f"cannot follow {branch} of {shown(repository)}"
