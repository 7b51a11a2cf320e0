"""Write a tree of files that a guest sends, below one place and nowhere else.

Every step goes from a descriptor by one name, and follows no symbolic link. The guest chooses
names and content; modes lose set-user-id, set-group-id and sticky bits, owners are the user's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from mizzen.model.errors import Failure

from .archive import Item, Left, Reader, spoiled

ITEMS_MAX = 5_000_000
FREE_PERCENT = 5
"""How much of a file system stays free, whatever the guest sends."""
LOOK_BYTES = 16 << 20
"""How much may be written until free space is looked at again."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _File:
    """A file under way, beside where it goes: the descriptor, and how far it has come."""

    item: Item
    descriptor: int
    temporary: str
    end: int = 0


class Extractor:
    """Takes an archive in pieces. A context manager: what is half done is removed at its end."""

    def __init__(self, place: Path, name: str) -> None:
        """Prepare to write at a place; into it, as ``name``, if it is a folder.

        Raises OSError as the system does, Failure if there is no name to write.
        """
        if place.is_dir() and name not in {"", ".", ".."}:
            folder, self._root = place, os.fsencode(name)
        else:
            folder, self._root = place.parent, os.fsencode(place.name)
        if not self._root or self._root == b".." or b"/" in self._root or b"\0" in self._root:
            raise Failure("cannot copy files", f"{place} is no place for them", "name a file")
        self._folders = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._way: tuple[bytes, ...] = ()
        self._reader = Reader()
        self._item: Item | None = None
        self._missing = 0  # bytes of its content that have not come
        self._link = b""
        self._file: _File | None = None
        self._unlooked = LOOK_BYTES
        self.files = 0
        """Files, links and folders written."""
        self.bytes = 0
        """Bytes written into files."""

    def __enter__(self) -> Extractor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._drop(self._file)
        for folder in self._folders:
            os.close(folder)

    @property
    def ended(self) -> bool:
        """Whether the archive has come to its end, and everything in it is whole."""
        return self._reader.ended and self._file is None

    def feed(self, data: bytes) -> None:
        """Take more of the archive.

        Raises Failure for what an honest guest does not send, OSError as the system does.
        """
        for found in self._reader.feed(data):
            if isinstance(found, Item):
                self._begin(found)
            else:
                self._content(found)
            if self._item is not None and not self._missing:
                self._finish(self._item)

    def _begin(self, item: Item) -> None:
        """Take an entry's beginning, and make what it goes to."""
        self.files += item.left != Left.MORE
        if self.files > ITEMS_MAX:
            raise spoiled("too many files")
        if self._file is not None and (item.name != self._file.item.name or not _is_file(item)):
            raise spoiled("a file without an end")
        if not item.name and stat.S_ISLNK(item.mode):
            raise spoiled("a link in place of what it leads to")
        self._item, self._missing, self._link = item, item.size, b""
        folder, _ = self._enter(item.name)
        if not _is_file(item):
            return
        if self._file is None:
            temporary = f".mizzen-{secrets.token_hex(8)}"
            descriptor = os.open(temporary, CREATE, 0o600, dir_fd=folder)
            self._file = _File(item, descriptor, temporary)
        if item.offset < self._file.end:
            raise spoiled("parts of a file out of order")
        self._file.end = item.offset

    def _content(self, piece: bytes) -> None:
        self._missing -= len(piece)
        if self._file is None:
            self._link += piece
            return
        self._make_sure_of_space(len(piece))
        view = memoryview(piece)
        while view:
            done = os.pwrite(self._file.descriptor, view, self._file.end)
            self._file.end += done
            view = view[done:]
        self.bytes += len(piece)

    def _finish(self, item: Item) -> None:
        """Take an entry's end."""
        self._item = None
        folder, name = self._enter(item.name)
        if self._file is not None:
            if item.left != Left.MORE:
                file, self._file = self._file, None
                self._finish_file(file, item, folder, name)
        elif stat.S_ISLNK(item.mode):
            _make_link(folder, name, item, self._link)
        else:
            _make_folder(folder, name, item)

    def _finish_file(self, file: _File, item: Item, folder: int, name: bytes) -> None:
        """Let a file take its place, or drop it if the guest could not read the rest."""
        try:
            if item.left == Left.LAST:
                os.ftruncate(file.descriptor, file.end)
                os.fchmod(file.descriptor, item.mode & 0o777)
                os.utime(file.descriptor, ns=(item.time, item.time))
                os.rename(file.temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            self._drop(file)

    def _enter(self, way: tuple[bytes, ...]) -> tuple[int, bytes]:
        """Return the folder that something goes to, as a descriptor, and its name there."""
        whole = (self._root, *way)
        above = whole[:-1]
        common = 0
        while common < min(len(above), len(self._way)) and above[common] == self._way[common]:
            common += 1
        while len(self._folders) > common + 1:
            os.close(self._folders.pop())
        self._way = above[:common]
        for name in above[common:]:
            self._folders.append(os.open(name, FOLDER, dir_fd=self._folders[-1]))
            self._way += (name,)
        return self._folders[-1], whole[-1]

    def _make_sure_of_space(self, size: int) -> None:
        self._unlooked += size
        if self._unlooked < LOOK_BYTES:
            return
        self._unlooked = 0
        space = os.fstatvfs(self._folders[0])
        if space.f_bavail * 100 < space.f_blocks * FREE_PERCENT:
            raise OSError(errno.ENOSPC, f"less than {FREE_PERCENT} % of the disk would stay free")

    def _drop(self, file: _File) -> None:
        os.close(file.descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.temporary, dir_fd=self._folders[-1])


def _is_file(item: Item) -> bool:
    return stat.S_ISREG(item.mode)


def _make_link(folder: int, name: bytes, item: Item, target: bytes) -> None:
    if b"\0" in target:
        raise spoiled("a link's target")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    os.symlink(target, name, dir_fd=folder)
    os.utime(name, ns=(item.time, item.time), dir_fd=folder, follow_symlinks=False)


def _make_folder(folder: int, name: bytes, item: Item) -> None:
    """Make a folder that is to be filled, or give one that is full its mode and time."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    made = os.open(name, FOLDER, dir_fd=folder)
    try:
        if item.left == Left.LAST:
            os.fchmod(made, item.mode & 0o777)
            os.utime(made, ns=(item.time, item.time))
    finally:
        os.close(made)
