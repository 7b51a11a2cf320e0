"""A folder becomes a read-only erofs file system, the same bits each time.

All times are 0 and the UUID is fixed, so the file depends on the folder's names, contents,
owners, modes and attributes alone. Nothing is compressed: under emulation, decompressing costs
a guest more than reading does.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from mizzen.host.process import last_words, run, which

UUID = "6d697a7a-656e-4000-8000-000000000000"
PYC_HEADER = struct.Struct("<4sIII")


def arguments(folder: Path, into: Path) -> list[str]:
    """Return the mkfs.erofs command that makes a folder's file system.

    Options are those that erofs-utils 1.5 and 1.8 share.
    """
    return ["mkfs.erofs", "--quiet", "-T0", f"-U{UUID}", "-x1", str(into), str(folder)]


async def build(folder: Path, into: Path, *, inside: Sequence[str], what: str) -> None:
    """Make a folder's file system. The folder's bytecode is changed on the way.

    inside: the beginning of a command that may act for the files' owners.
    """
    which("mkfs.erofs")  # so that a missing one is named, and not what would have run it
    # In a process of its own, since only that can be inside. -P: never import from this folder.
    code = f"import sys; from {__name__} import settle_bytecode as s; s(sys.argv[1])"
    await run(*inside, sys.executable, "-P", "-c", code, folder, what=what)
    await run(*inside, *arguments(folder, into), what=what, explain=explain)


def explain(stderr: str) -> tuple[str, str]:
    """Tell from mkfs.erofs's complaints why it failed, and what to do."""
    if "No space left" in stderr or "ENOSPC" in stderr:
        return "No space left on device", "free some disk space"
    return last_words(stderr.encode()) or "mkfs.erofs failed", ""


def settle_bytecode(folder: Path) -> int:
    """Make Python's bytecode fit sources whose times become 0; return how many files changed.

    A .pyc file records its source's modification time, and Python compiles anew at every start
    if they differ, which costs seconds under emulation. Bytecode that was valid, as far as
    can be told (time and size agree, or the time was set to 0 and the size agrees), is kept so.

    Source: PEP 552; importlib._bootstrap_external._validate_timestamp_pyc.
    """
    changed = 0
    for directory, _, files in os.walk(folder):
        if not directory.endswith("/__pycache__"):
            continue
        for name in files:
            if name.endswith(".pyc"):
                changed += _settle(Path(directory, name))
    return changed


def _settle(bytecode: Path) -> bool:
    source = bytecode.parent.parent / f"{bytecode.name.split('.')[0]}.py"
    if bytecode.is_symlink() or source.is_symlink() or not source.is_file():
        return False
    status = source.lstat()
    with bytecode.open("r+b") as file:
        header = file.read(PYC_HEADER.size)
        if len(header) != PYC_HEADER.size:
            return False
        magic, flags, time, size = PYC_HEADER.unpack(header)
        recorded = int(status.st_mtime) in {0, time} and size == status.st_size & 0xFFFFFFFF
        if flags or not time or not recorded:
            return False
        file.seek(0)
        file.write(PYC_HEADER.pack(magic, flags, 0, size))
    return True
