"""Tools made ready for sessions: out of what a user names, or of Debian packages.

Apart from ``tools.py``, since what it takes to build images takes a moment to import.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mizzen.host.cache import closed, keep, workshop
from mizzen.host.files import explained, replacing, sha256
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

from . import archive, image, mounts, toolbox, tools
from .tools import Tools


async def gather(named: str, folders: Folders, report: Report) -> Tools:
    """Return the tools a user names: a folder, a tarball, or an OCI image.

    Raises Failure, in one line, whatever prevents it.
    """
    what = f"cannot use the tools {named}"
    path = _local(named, what)
    if path is None:
        return tools.recorded(await image.tools_folder(named, folders, report), named)
    with explained(what):
        return await _from_archive(path, folders, report) or tools.measured(named, path, what)


async def build_default(folders: Folders, report: Report) -> Tools:
    """Make the default tools of Debian packages, anew if they are there already.

    Raises Failure if Debian's mirror cannot be reached, there is no disk space, or a session uses
    the old ones.
    """
    what = "cannot make the tools"
    place = folders.cache / "tools" / toolbox.key()
    async with workshop(closed(place.parent), what) as temporary:
        made = await toolbox.make(temporary, await mounts.own(), what, report)
        await archive.extract(made, temporary / "root", what, report)
        tools.take_away(place, temporary, what)
        return tools.recorded(keep(temporary / "root", place), toolbox.NAME)


def _local(named: str, what: str) -> Path | None:
    """Return the folder or file that a user named, None if it is an OCI reference."""
    path = Path(named)
    if path.exists():
        return path.resolve()
    if named.startswith(("/", ".")):
        raise Failure(what, "there is no such folder or file", archive.FIX)
    return None


async def _from_archive(file: Path, folders: Folders, report: Report) -> Tools | None:
    """Return an archive's files, unpacked the first time that this very content is named.

    None if it is no file.
    """
    what = f"cannot use the tools {file}"
    kind = folders.cache / "tools"
    noted = _note(file, folders)
    if noted is None:
        return None
    if known := _noted(noted, kind):
        return known
    async with workshop(closed(kind), what) as temporary:
        task = f"reading {file.name}"
        report(Progress(task))
        place = kind / f"archive-{sha256(file)}"
        report(Progress(task, finished=True))
        known = tools.recall(place)
        if known is None:
            root = await archive.root_of(file, temporary, folders, what, report)
            known = tools.recorded(keep(root, place), str(file))
        with replacing(noted) as written:
            written.write_text(place.name)
    return known


def _note(file: Path, folders: Folders) -> Path | None:
    """Return where it is noted which content a file has: reading all of it takes long."""
    if not file.is_file():
        return None
    status = file.stat()
    facts = f"{file} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return folders.cache / "archives" / hashlib.sha256(facts.encode()).hexdigest()


def _noted(note: Path, kind: Path) -> Tools | None:
    return tools.recall(kind / note.read_text()) if note.is_file() else None
