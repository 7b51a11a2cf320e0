"""Write cpio archives in the "newc" format, which the kernel unpacks as an initramfs.

Archives are reproducible: entries are written in the order given, with time 0 and inode
numbers counted from 1. Several archives may follow one another in one initramfs.

Source: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

ALIGN = 4
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive.

    name: path without a leading slash. mode: type and permission bits, as ``st_mode``.
    data: content, or a symbolic link's target. device: (major, minor) of a device node.
    """

    name: str
    mode: int
    data: bytes = field(default=b"", repr=False)
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def directory(name: str, mode: int = 0o755) -> Entry:
    """Return an entry for a folder."""
    return Entry(name, stat.S_IFDIR | mode)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """Return an entry for a regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def link(name: str, target: str) -> Entry:
    """Return an entry for a symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, os.fsencode(target))


def tree(root: Path) -> Iterator[Entry]:
    """Yield a folder's entries, parents first, in the order of their names.

    Sockets are left out, and hard links become files of their own.
    """
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            continue
        data = b""
        if kind == stat.S_IFREG:
            data = path.read_bytes()
        elif kind == stat.S_IFLNK:
            data = os.fsencode(path.readlink())
        yield Entry(
            path.relative_to(root).as_posix(),
            status.st_mode,
            data,
            status.st_uid,
            status.st_gid,
            (os.major(status.st_rdev), os.minor(status.st_rdev)),
        )


def archive(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield an archive's bytes, padded to a whole number of 512-byte blocks."""
    written = 0
    for number, entry in enumerate(chain(entries, [Entry("TRAILER!!!", 0)]), start=1):
        record = _header(number, entry) + _padded(entry.data)
        written += len(record)
        yield record
    yield bytes(-written % BLOCK)


def _header(number: int, entry: Entry) -> bytes:
    name = os.fsencode(entry.name) + b"\0"
    fields = (
        number, entry.mode, entry.uid, entry.gid, 1, 0, len(entry.data),
        0, 0, *entry.device, len(name), 0,
    )  # fmt: skip
    return _padded(b"070701" + b"".join(b"%08x" % field for field in fields) + name)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGN)
