"""Take single files out of an erofs file system without mounting it, which needs no rights.

Only what ``rootfs`` makes is read: nothing compressed, nothing in chunks. Symbolic links are
followed as the machine that boots it would, so nothing leads outside.

Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SUPERBLOCK = 1024
MAGIC = 0xE0F5E1E2
LINKS_MAX = 40
"""As many symbolic links as Linux follows in one path."""
NAME_MAX = 4095
CHUNK = 1 << 20
DIRECTORY_MAX = 64 << 20

_SUPER = struct.Struct("<I8xBxH24xI")  # magic, block bits, root's number, first inode's block
_COMPACT = struct.Struct("<HHHHI4xI")  # format, attributes, mode, links, size, first block
_EXTENDED = struct.Struct("<HHH2xQI")
_ENTRY = struct.Struct("<QHBx")
_PLAIN, _INLINE = 0, 2


class Missing(Exception):  # noqa: N818 - Failure's reason
    """There is no such file; says why."""


@dataclass(frozen=True, slots=True)
class Inode:
    """A file's record. start: where its blocks begin; tail: where the rest of it does, in bytes.

    inline: how many of its last bytes are at ``tail``.
    """

    mode: int
    size: int
    start: int
    tail: int
    inline: int


class Erofs:
    """A file system in a file that is open for reading. Raises Missing if it is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        try:
            magic, bits, root, first = _SUPER.unpack(self._read(SUPERBLOCK, _SUPER.size))
        except Missing:
            magic, bits, root, first = 0, 0, 0, 0
        if magic != MAGIC or not 9 <= bits <= 16:
            raise Missing("it is no erofs file system")
        self._block = 1 << bits
        self._inodes = first << bits
        self._root = root

    def find(self, path: str) -> Inode:
        """Return the regular file of an absolute path. Raises Missing, saying which part is."""
        inode = self._walk(path)
        if not stat.S_ISREG(inode.mode):
            kind = "a folder" if stat.S_ISDIR(inode.mode) else "no regular file"
            raise Missing(f"{path} is {kind}")
        return inode

    def content(self, inode: Inode) -> Iterator[bytes]:
        """Yield a file's bytes in chunks."""
        plain = inode.size - inode.inline
        for offset in range(0, plain, CHUNK):
            yield self._read(inode.start + offset, min(CHUNK, plain - offset))
        if inode.inline:
            yield self._read(inode.tail, inode.inline)

    def _walk(self, path: str) -> Inode:
        trail = [self._inode(self._root)]
        todo = _parts(path)
        links = 0
        while todo:
            name = todo.pop(0)
            if name == "..":
                trail = trail[:-1] or trail
                continue
            inode = self._inode(self._entry(trail[-1], name, path))
            if not stat.S_ISLNK(inode.mode):
                trail.append(inode)
                continue
            links += 1
            target = self._whole(inode, NAME_MAX).decode(errors="surrogateescape")
            if links > LINKS_MAX or not target:
                raise Missing(f"{path} leads through too many symbolic links")
            if target.startswith("/"):
                trail = trail[:1]
            todo = _parts(target) + todo
        return trail[-1]

    def _entry(self, folder: Inode, name: str, path: str) -> int:
        """Return the number of a folder's entry."""
        if not stat.S_ISDIR(folder.mode):
            raise Missing(f"there is no {path}: what should hold {name!r} is no folder")
        wanted = name.encode(errors="surrogateescape")
        data = self._whole(folder, DIRECTORY_MAX)
        for begin in range(0, len(data), self._block):
            for entry, number in _entries(data[begin : begin + self._block]):
                if entry == wanted:
                    return number
        raise Missing(f"there is no {path}: nothing is called {name!r} there")

    def _inode(self, number: int) -> Inode:
        place = self._inodes + 32 * number
        form, attributes, mode, _, size, first = _COMPACT.unpack(self._read(place, _COMPACT.size))
        after = place + 32
        if form & 1:
            form, attributes, mode, size, first = _EXTENDED.unpack(
                self._read(place, _EXTENDED.size)
            )
            after = place + 64
        if attributes:
            after += 12 + 4 * (attributes - 1)
        layout = form >> 1 & 7
        if layout not in {_PLAIN, _INLINE} and not _special(mode):
            raise Missing("its file system is compressed or in chunks")
        blocks = -(-size // self._block)
        inline = size - (blocks - 1) * self._block if layout == _INLINE and size else 0
        return Inode(mode, size, first * self._block, after, inline)

    def _whole(self, inode: Inode, most: int) -> bytes:
        if inode.size > most:
            raise Missing("its file system is damaged")
        return b"".join(self.content(inode))

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise Missing("its file system is damaged: it ends too soon")
        self._file.seek(offset)
        return self._file.read(size)


def _special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]


def _entries(block: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the names in a block of a folder, with their inodes' numbers."""
    if len(block) < _ENTRY.size:
        return
    count = min(_ENTRY.unpack_from(block)[1], len(block)) // _ENTRY.size
    found = [_ENTRY.unpack_from(block, index * _ENTRY.size) for index in range(count)]
    ends = [entry[1] for entry in found[1:]] + [len(block)]
    for (number, begin, _), end in zip(found, ends, strict=True):
        yield block[begin:end].partition(b"\0")[0], number
