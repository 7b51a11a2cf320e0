"""Commits, and their files in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from mizzen.host.cache import closed, keep, workshop
from mizzen.host.files import explained
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

from .mirror import Mirror
from .repository import shown, submodule

KEPT = 3 * 3600.0
"""Seconds that a checkout stays after it was last asked for; no build reads one longer."""

MIRROR_KEPT = 30 * 86400.0
"""Seconds that a mirror stays after it was last fetched into."""

PARTS_MAX = 256
"""Repositories that one checkout is made of, with submodules."""


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a repository.

    repository: an absolute path or a URL. branch: that it was found on, "" if by its hash or tag.
    hash: the whole one, in hex. message: as its author wrote it.
    submodules: whether a checkout has what they hold.
    """

    repository: str
    branch: str
    hash: str
    message: str
    submodules: bool = True

    @property
    def short(self) -> str:
        """The first 12 digits of the hash: as many name a commit in any repository."""
        return self.hash[:12]

    def __str__(self) -> str:
        return f"{self.short} of {shown(self.repository)}"


@dataclass(frozen=True, slots=True)
class _Part:
    """A repository's share of a checkout. path: where it lies in that, "" for the root."""

    path: str
    mirror: Mirror
    commit: str


async def checkout(commit: Commit, folders: Folders, report: Report) -> Path:
    """Return a folder with a commit's files and its submodules', without ``.git``.

    It is for reading, below the cache, and stays for ``KEPT`` seconds after this.
    Raises Failure, or TemporaryFailure where the network or the other side is to blame.
    """
    what = f"cannot check out {commit}"
    with explained(what):
        return await _checkout(commit, folders, report, what)


async def _checkout(commit: Commit, folders: Folders, report: Report, what: str) -> Path:
    kind = closed(folders.cache / "git" / "checkouts")
    inputs = f"{commit.repository}\n{commit.hash}\n{commit.submodules}"
    place = kind / hashlib.sha256(inputs.encode()).hexdigest()
    with contextlib.suppress(FileNotFoundError):
        os.utime(place)
        return place
    parts = await _parts(commit, folders, report)
    task = f"checking out {commit}"
    report(Progress(task))
    async with workshop(kind, what) as workplace:
        root = workplace / "root"
        root.mkdir()
        for number, part in enumerate(parts):
            index = workplace / f"index-{number}"
            await _write(part, root, index, what)
        keep(root, place)
        os.utime(place)
        _collect(kind, KEPT)
        _collect(folders.cache / "git" / "mirrors", MIRROR_KEPT)
    report(Progress(task, finished=True))
    return place


async def _parts(commit: Commit, folders: Folders, report: Report) -> list[_Part]:
    """Fetch a commit and those of its submodules, and theirs; those inside after those around."""
    parts: list[_Part] = []
    wanted = [_Part("", Mirror(commit.repository, folders), commit.hash)]
    while wanted:
        part = wanted.pop()
        parts.append(part)
        if len(parts) > PARTS_MAX:
            why = f"it has more than {PARTS_MAX} submodules, with theirs"
            raise Failure(f"cannot check out {commit}", why, "give submodules=False")
        task = f"fetching {part.commit[:12]} of {shown(part.mirror.repository)}"
        report(Progress(task))
        await part.mirror.fetch("", part.commit)
        report(Progress(task, finished=True))
        if commit.submodules:
            wanted += await _submodules(part, folders)
    return parts


async def _submodules(part: _Part, folders: Folders) -> list[_Part]:
    mirror = part.mirror
    what = f"cannot read the submodules of {part.commit[:12]} of {shown(mirror.repository)}"
    listed = await mirror("ls-tree", "-r", "-z", "--full-tree", part.commit, what=what)
    links: dict[str, str] = {}
    urls: dict[str, str] = {}
    for entry in listed.split(b"\0"):
        told, _, path = entry.partition(b"\t")
        if told.startswith(b"160000 "):
            links[os.fsdecode(path)] = told.split()[2].decode()
        elif path == b".gitmodules":
            urls = await _urls(part, what)
    found = []
    for link, commit in links.items():
        if link not in urls:
            why = f".gitmodules has no url for {link}"
            raise Failure(what, why, "mend it, or give submodules=False")
        name = submodule(mirror.repository, urls[link], path=link)
        found.append(_Part(str(PurePosixPath(part.path, link)), Mirror(name, folders), commit))
    return found


async def _urls(part: _Part, what: str) -> dict[str, str]:
    """Return the URLs in ``.gitmodules``, by path."""
    read = ("config", "--null", "--list", "--blob", f"{part.commit}:.gitmodules")
    settings = await part.mirror(*read, what=what)
    values: dict[str, dict[str, str]] = {}
    for setting in settings.decode(errors="surrogateescape").split("\0"):
        key, _, value = setting.partition("\n")
        section, _, rest = key.partition(".")
        name, _, variable = rest.rpartition(".")
        if section == "submodule":
            values.setdefault(name, {})[variable] = value
    return {one["path"]: one["url"] for one in values.values() if {"path", "url"} <= one.keys()}


async def _write(part: _Part, root: Path, index: Path, what: str) -> None:
    """Write a part's files below a checkout's root; git makes the folders of submodules."""
    env = {"GIT_INDEX_FILE": str(index)}
    tree = f"--work-tree={_inside(root, part.path)}"
    await part.mirror(tree, "read-tree", "--reset", "-u", part.commit, what=what, env=env)


def _inside(root: Path, path: str) -> Path:
    """Return the folder that git has made for a submodule; a name may not lead out of the root."""
    folder = root / path
    if not folder.resolve().is_relative_to(root.resolve()):
        raise Failure(f"cannot check out {path}", "it leads out of its repository", "mend it")
    return folder


def _collect(kind: Path, kept: float) -> None:
    """Remove the folders of a kind that nobody has asked for in that many seconds."""
    before = time.time() - kept
    for place in kind.iterdir():
        if place.is_dir() and not place.name.startswith(".") and place.stat().st_mtime < before:
            shutil.rmtree(place, ignore_errors=True)
