"""Bare copies of repositories below the cache: what was fetched once is there for checkouts.

A mirror holds no more history than was asked for. Its refs, one for each branch or tag that was
followed and one for the last commit that was asked for by its hash, are what git need not fetch
again; what they have left behind, git's own collection removes after two weeks.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.cache import closed
from mizzen.host.files import explained, turn
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure

from .command import git
from .repository import shown

FETCH_SECONDS = 3600.0
"""How long one fetch may take; one that stands still is ended by git much earlier."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit that a mirror has. hash: the whole one. message: as its author wrote it."""

    hash: str
    message: str


class Mirror:
    """The mirror of one repository. repository: as ``repository.understood`` returns it."""

    def __init__(self, repository: str, folders: Folders) -> None:
        self.repository = repository
        name = hashlib.sha256(repository.encode()).hexdigest()
        self._kind = folders.cache / "git" / "mirrors"
        self.folder = self._kind / name
        self._turn = self._kind / f"{name}.lock"

    async def fetch(self, ref: str, commit: str) -> Revision:
        """Return a commit, fetched unless it is there.

        ref: what it was found under, such as refs/heads/main; "" to ask for the commit itself.
        commit: its hash. If the ref has moved on meanwhile, what it leads to now is returned.
        Raises Failure and TemporaryFailure.
        """
        what = f"cannot fetch {ref.removeprefix('refs/heads/') or commit[:12]}"
        what += f" of {shown(self.repository)}"
        with explained(what):
            closed(self._kind)
            async with turn(self._turn):
                await self._prepare(commit, what)
                place = self._place(ref)
                if (known := await self._known(ref, commit, what)) is not None:
                    return known
                await self._fetch(f"+{ref or commit}:{place}", what)
                found = await self._find(place if ref else commit, what)
        if found is None:
            raise Failure(what, "it is no commit", "name a commit, or a tag of one")
        return found

    async def last(self, ref: str) -> Revision | None:
        """Return what a ref led to when it was fetched last; None if it never was."""
        what = f"cannot read the mirror of {shown(self.repository)}"
        return await self._find(self._place(ref), what) if self.folder.is_dir() else None

    async def __call__(
        self, *arguments: str | Path, what: str, env: dict[str, str] | None = None
    ) -> bytes:
        """Run git on the mirror."""
        directory = f"--git-dir={self.folder}"
        return await git(directory, *arguments, what=what, repository=self.repository, env=env)

    async def _known(self, ref: str, commit: str, what: str) -> Revision | None:
        """Return a commit that is there, and remember that it is what the ref leads to."""
        place = self._place(ref)
        if ref and (last := await self._find(place, what)) is not None and last.hash == commit:
            return last
        known = await self._find(commit, what)
        if known is not None and ref:
            await self("update-ref", place, commit, what=what)
        return known

    async def _prepare(self, commit: str, what: str) -> None:
        """Make the mirror, or set right what a killed git has left of its work."""
        if not (self.folder / "HEAD").is_file():
            kind = "sha256" if len(commit) == 64 else "sha1"
            arguments = ("init", "--quiet", "--bare", "--template=", f"--object-format={kind}")
            await git(*arguments, self.folder, what=what, repository=self.repository)
        for lock in _locks(self.folder):
            lock.unlink(missing_ok=True)  # whoever held it had this turn, and is dead
        os.utime(self.folder)

    async def _fetch(self, refspec: str, what: str) -> None:
        arguments = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--force")
        for depth in (("--depth=1",), ()):
            command = (f"--git-dir={self.folder}", *arguments, *depth, "--", self.repository)
            try:
                await git(
                    *command, refspec, what=what, repository=self.repository, limit=FETCH_SECONDS
                )
                return
            except Failure as failure:
                if not depth or "shallow" not in failure.why:  # plain files served over HTTP
                    raise

    async def _find(self, name: str, what: str) -> Revision | None:
        """Return the commit of a name in the mirror, None if there is none."""
        try:
            hash_ = await self("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}", what=what)
        except Failure:
            return None
        commit = hash_.decode().strip()
        text = (await self("cat-file", "commit", commit, what=what)).decode(errors="replace")
        return Revision(commit, text.partition("\n\n")[2].strip())

    def _place(self, ref: str) -> str:
        """Return the mirror's ref for another's. One level only: a/b may follow after an a."""
        return f"refs/fetched/{hashlib.sha256(ref.encode()).hexdigest()}"


def _locks(folder: Path) -> Iterator[Path]:
    return itertools.chain(folder.glob("*.lock"), (folder / "refs").rglob("*.lock"))
