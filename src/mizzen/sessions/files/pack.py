"""Read a tree of the host's files as an archive for the guest."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from . import archive
from .archive import DEPTH_MAX, Item, Left

PART = 64 << 10
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def size_of(path: Path) -> int:
    """Return the bytes of the files in a tree, about. What cannot be read counts as nothing."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - many of them
            except OSError:
                continue
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


class Packer:
    """A tree's archive. A symbolic link that the path itself is, is followed."""

    def __init__(self, path: Path) -> None:
        """Prepare to read a tree. Raises OSError if there is none."""
        self._path = path.resolve(strict=True)
        self.files = 0
        """Files, links and folders packed."""
        self.bytes = 0
        """Bytes of files packed."""
        self.left_out: list[str] = []
        """What could not be read, is nested too deep, or is a device or the like; and why."""

    @property
    def name(self) -> str:
        """What the tree is called."""
        return self._path.name

    def pieces(self) -> Iterator[bytes]:
        """Yield the archive. Raises OSError if nothing can be read."""
        yield from self._any(self._path, ())
        yield archive.trailer()

    def _any(self, path: Path, way: tuple[bytes, ...]) -> Iterator[bytes]:
        try:
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFLNK:
                yield self._written(way, status, os.fsencode(path.readlink()))
            elif kind == stat.S_IFREG:
                yield from self._file(path, way)
            elif kind == stat.S_IFDIR:
                yield from self._folder(path, status, way)
            else:
                self._leave_out(path, "neither file, folder nor link")
        except OSError as error:
            if not way:
                raise
            self._leave_out(path, error.strerror or str(error))

    def _folder(
        self, path: Path, status: os.stat_result, way: tuple[bytes, ...]
    ) -> Iterator[bytes]:
        names = sorted(os.listdir(path))  # noqa: PTH208 - names alone
        if len(way) == DEPTH_MAX and names:
            self._leave_out(path, f"deeper than {DEPTH_MAX} folders")
            names = []
        yield self._written(way, status, left=Left.MORE)
        for name in names:
            further = (*way, os.fsencode(name))
            if len(b"/".join(further)) > archive.NAME_MAX:
                self._leave_out(path / name, f"a path of more than {archive.NAME_MAX} bytes")
            else:
                yield from self._any(path / name, further)
        yield self._written(way, status)

    def _file(self, path: Path, way: tuple[bytes, ...]) -> Iterator[bytes]:
        """Yield a file in parts. It may change meanwhile: what is added to it is left out."""
        descriptor = os.open(path, OPEN)
        try:
            status = os.fstat(descriptor)
            position, left = 0, Left.MORE
            while left == Left.MORE:
                content = b""
                try:
                    position = _data(descriptor, position, status.st_size)
                    wanted = min(PART, status.st_size - position)
                    content = os.pread(descriptor, wanted, position)
                    if not content or position + len(content) >= status.st_size:
                        left = Left.LAST
                except OSError as error:
                    self._leave_out(path, error.strerror or str(error))
                    left = Left.LOST
                yield self._written(way, status, content, left, position)
                position += len(content)
        finally:
            os.close(descriptor)

    def _written(
        self,
        way: tuple[bytes, ...],
        status: os.stat_result,
        content: bytes = b"",
        left: Left = Left.LAST,
        offset: int = 0,
    ) -> bytes:
        self.files += left == Left.LAST
        self.bytes += len(content) if stat.S_ISREG(status.st_mode) else 0
        item = Item(way, status.st_mode, left, status.st_mtime_ns, offset)
        return archive.written(item, content)

    def _leave_out(self, path: Path, why: str) -> None:
        self.left_out.append(f"{path}: {why}")


def _data(descriptor: int, position: int, end: int) -> int:
    """Return where the file goes on behind a hole."""
    try:
        return min(os.lseek(descriptor, position, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        return position  # a file system without holes
