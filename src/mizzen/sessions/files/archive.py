"""How trees of files travel: cpio archives in the "newc" format, read and written further.

Mirrors guest/attach/archive.h, which says what is further. What is read here was written by the
guest and is checked.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from mizzen.model.errors import Failure

MAGIC = b"070701"
HEADER_SIZE = 110
TRAILER = b"TRAILER!!!"
NAME_MAX = 4095
COMPONENT_MAX = 255
DEPTH_MAX = 128
PART_MAX = 1 << 30
FILE_MAX = 1 << 50
"""Bytes of a file, holes included: more than file systems have."""
LINK_MAX = 4095


class Left(IntEnum):
    """Whether more of the same comes: LOST means that the rest could not be read."""

    LOST = 0
    LAST = 1
    MORE = 2


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of an archive; its content follows.

    name: the way from the tree's root, which is empty for the root itself. time: when it was
    changed, in nanoseconds. offset, size: where its content belongs in the file, in bytes.
    """

    name: tuple[bytes, ...]
    mode: int
    left: Left
    time: int = 0
    offset: int = 0
    size: int = 0


def written(item: Item, content: bytes) -> bytes:
    """Return an entry of an archive."""
    return _entry(b"/".join(item.name) or b".", item, content)


def trailer() -> bytes:
    """Return an archive's end."""
    return _entry(TRAILER, Item((), 0, Left.LAST), b"")


def _entry(name: bytes, item: Item, content: bytes) -> bytes:
    seconds, nanoseconds = divmod(max(0, item.time), 10**9)
    fields = (
        *(0, item.mode, 0, 0, item.left, seconds & 0xFFFF_FFFF, len(content), 0, 0),
        *(item.offset >> 32, item.offset & 0xFFFF_FFFF, len(name) + 1, nanoseconds),
    )
    head = MAGIC + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def spoiled(why: str) -> Failure:
    """Return the failure for an archive that no honest guest sends."""
    return Failure("cannot copy files", f"the guest sent a broken archive: {why}")


class Reader:
    """Takes an archive in pieces, as they come."""

    def __init__(self) -> None:
        """Expect an archive's beginning."""
        self.ended = False
        """Whether the trailer has come."""
        self._pending = bytearray()
        self._content = 0
        self._padding = 0

    def feed(self, data: bytes) -> Iterator[Item | bytes]:
        """Yield the entries that begin in these bytes, and each one's content in pieces.

        Raises Failure for what is no archive.
        """
        self._pending += data
        while not self.ended:
            if self._content:
                piece = bytes(self._pending[: self._content])
                if not piece:
                    return
                del self._pending[: len(piece)]
                self._content -= len(piece)
                yield piece
            elif self._padding:
                if len(self._pending) < self._padding:
                    return
                del self._pending[: self._padding]
                self._padding = 0
            else:
                item = self._item()
                if item is None:
                    return
                yield item

    def _item(self) -> Item | None:
        """Take the next entry's header and name, None if they have not come or there is none."""
        if len(self._pending) < HEADER_SIZE:
            return None
        header = bytes(self._pending[:HEADER_SIZE])
        fields = _fields(header)
        length = fields[11]
        if not 1 < length <= NAME_MAX + 1:
            raise spoiled("a name's length")
        end = HEADER_SIZE + length
        if len(self._pending) < end + -end % 4:
            return None
        name = bytes(self._pending[HEADER_SIZE : end - 1])
        del self._pending[: end + -end % 4]
        if name == TRAILER and not fields[1]:
            self.ended = True
            return None
        self._content, self._padding = fields[6], -fields[6] % 4
        return replace(_checked(fields), name=way(name))


def _fields(header: bytes) -> tuple[int, ...]:
    digits = header[len(MAGIC) :]
    if not header.startswith(MAGIC) or digits.strip(b"0123456789abcdefABCDEF"):
        raise spoiled("no header where one belongs")
    return struct.unpack(">13I", bytes.fromhex(digits.decode()))


def _checked(fields: tuple[int, ...]) -> Item:
    """Return an entry without its name. Raises Failure if it is of no kind that is copied."""
    mode, size, nanoseconds = fields[1], fields[6], fields[12]
    kind = stat.S_IFMT(mode)
    offset = fields[9] << 32 | fields[10]
    if kind not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
        raise spoiled("neither file, folder nor link")
    if size > PART_MAX or offset + size > FILE_MAX or nanoseconds >= 10**9:
        raise spoiled("a size or a time")
    if kind != stat.S_IFREG and (offset or (kind == stat.S_IFDIR and size)):
        raise spoiled("a folder or a link with a file's content")
    if kind == stat.S_IFLNK and not 0 < size <= LINK_MAX:
        raise spoiled("a link's length")
    try:
        left = Left(fields[4])
    except ValueError:
        raise spoiled("a count of parts") from None
    return Item((), mode, left, fields[5] * 10**9 + nanoseconds, offset, size)


def way(name: bytes) -> tuple[bytes, ...]:
    """Return a name's components. Raises Failure if it could lead out of the tree."""
    if name == b".":
        return ()
    parts = tuple(name.split(b"/"))
    if len(parts) > DEPTH_MAX or any(
        part in {b"", b".", b".."} or b"\0" in part or len(part) > COMPONENT_MAX for part in parts
    ):
        raise spoiled("a name that leads elsewhere")
    return parts
