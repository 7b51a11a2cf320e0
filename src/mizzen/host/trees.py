"""Folders with all that is in them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path


def digest(folder: Path, without: Collection[str] = ()) -> str:
    """Return the SHA-256 over all that a build can see of a folder: names, modes, contents.

    without: names of files and folders that are left out wherever they are. Raises OSError.
    """
    total = hashlib.sha256()
    for path in _walk(folder, without):
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink()).hex()
        name = os.fsencode(path.relative_to(folder)).hex()
        total.update(f"{name} {status.st_mode:o} {content}\n".encode())
    return total.hexdigest()


def folders(folder: Path, without: Collection[str] = ()) -> Iterator[Path]:
    """Yield a folder and those inside it; ``without`` as above. Raises OSError."""
    yield folder
    for entry in os.scandir(folder):
        if entry.name not in without and entry.is_dir(follow_symlinks=False):
            yield from folders(Path(entry.path), without)


def _walk(folder: Path, without: Collection[str]) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in without:
            continue
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, without)
