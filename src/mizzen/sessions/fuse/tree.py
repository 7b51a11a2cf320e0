"""The files that are served: a folder of this host with entries laid over it.

The folder is known by a descriptor alone. Every file below it is opened name by name, relative to
the folder it is in, and never through a symbolic link; so whatever names a guest makes up, and
whoever swaps files meanwhile, nothing outside the folder is reached.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from mizzen.host.cpio import Entry

from .kept import Kept
from .overlay import OVERLAID, Layer, overlaid
from .protocol import ATTRIBUTES, PAGE, Refused

DESCRIPTORS = 64
"""Folders, and files, that are kept open."""
LISTINGS = 8
LISTED_MAX = 1 << 17
"""Names in one folder; a larger one is refused with EOVERFLOW."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: should a FIFO have taken the file's place, opening it must not wait.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True, eq=False)
class Node:
    """A file as it was when it was first seen.

    attributes: as struct fuse_attr. identity: device and inode of the file below; None if the
    overlay alone makes it. layer: what lies over it.
    """

    parent: Node | None
    name: bytes
    mode: int
    inode: int
    attributes: bytes
    identity: tuple[int, int] | None
    layer: Layer | None


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a folder. kind: its type as in ``struct dirent``."""

    name: bytes
    inode: int
    kind: int


class Tree:
    """A folder with entries over it; see ``overlay``. Not for several threads."""

    def __init__(self, folder: int, overlay: Iterable[Entry] = ()) -> None:
        """Serve a folder. folder: its descriptor, which stays the caller's.

        Raises OSError if it cannot be looked at.
        """
        self._folder = folder
        self._directories: Kept[Node, int] = Kept(DESCRIPTORS, os.close)
        self._files: Kept[Node, int] = Kept(DESCRIPTORS, os.close)
        self._listings: Kept[Node, list[Name]] = Kept(LISTINGS, lambda _: None)
        status = os.fstat(folder)
        self._device = status.st_dev
        self.root = self._node(None, b"", status, overlaid(overlay))

    def close(self) -> None:
        """Close what is open."""
        self._directories.clear()
        self._files.clear()

    def child(self, parent: Node, name: bytes) -> Node:
        """Return a file in a folder. Raises OSError or Refused; ENOENT if it is not there."""
        if not stat.S_ISDIR(parent.mode):
            raise Refused(errno.ENOTDIR)
        layer = parent.layer.names.get(name) if parent.layer else None
        status = None
        if parent.identity and (layer is None or layer.is_folder):
            try:
                status = os.stat(name, dir_fd=self._directory(parent), follow_symlinks=False)
            except FileNotFoundError:
                if layer is None:
                    raise
        if layer and (status is None or not stat.S_ISDIR(status.st_mode)):
            return _overlaid_node(parent, name, layer)
        if status is None:
            raise Refused(errno.ENOENT)
        return self._node(parent, name, status, layer)

    def names(self, node: Node) -> list[Name]:
        """Return what is in a folder, in an order that stays. Raises OSError or Refused."""
        if not stat.S_ISDIR(node.mode):
            raise Refused(errno.ENOTDIR)
        known = self._listings.get(node)
        if known is not None:
            return known
        found = {}
        if node.identity:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            descriptor = os.open(".", flags, dir_fd=self._directory(node))
            try:
                found = self._scan(descriptor, node.identity[0])
            finally:
                os.close(descriptor)
        for name, layer in node.layer.names.items() if node.layer else ():
            below = found.get(name)
            if not (layer.is_folder and below and below.kind == stat.S_IFDIR >> 12):
                made = _overlaid_node(node, name, layer)
                found[name] = Name(name, made.inode, made.mode >> 12)
        return self._listings.put(node, [found[name] for name in sorted(found)])

    def _scan(self, descriptor: int, device: int) -> dict[bytes, Name]:
        found = {}
        with os.scandir(descriptor) as entries:
            for entry in itertools.islice(entries, LISTED_MAX + 1):
                name = os.fsencode(entry.name)
                found[name] = Name(name, self._inode(device, entry.inode()), _kind(entry))
        if len(found) > LISTED_MAX:
            raise Refused(errno.EOVERFLOW)
        return found

    def target(self, node: Node) -> bytes:
        """Return where a symbolic link points, as text. Raises OSError or Refused."""
        if not stat.S_ISLNK(node.mode):
            raise Refused(errno.EINVAL)
        if node.identity is None or node.parent is None:
            return _data(node)
        return os.readlink(node.name, dir_fd=self._directory(node.parent))

    def read(self, node: Node, offset: int, size: int) -> bytes:
        """Return a file's content from an offset, less at its end. Raises OSError or Refused."""
        if not stat.S_ISREG(node.mode):
            raise Refused(errno.EISDIR if stat.S_ISDIR(node.mode) else errno.EINVAL)
        if offset >= 1 << 63:
            raise Refused(errno.EINVAL)
        if node.identity is None:
            return _data(node)[offset : offset + size]
        return os.pread(self._file(node), size, offset)

    def _file(self, node: Node) -> int:
        known = self._files.get(node)
        if known is not None:
            return known
        assert node.parent is not None  # the root is a folder
        opened = self._opened(node, _FILE, self._directory(node.parent))
        return self._files.put(node, opened)

    def _directory(self, node: Node) -> int:
        """Return the descriptor of a folder, opened from the nearest one above that is open."""
        wanted = []
        descriptor = None
        while node.parent is not None and (descriptor := self._directories.get(node)) is None:
            wanted.append(node)
            node = node.parent
        if descriptor is None:
            descriptor = self._folder
        for below in reversed(wanted):
            descriptor = self._directories.put(below, self._opened(below, _DIRECTORY, descriptor))
        return descriptor

    def _opened(self, node: Node, flags: int, directory: int) -> int:
        if node.identity is None:
            raise Refused(errno.ENOENT)
        descriptor = os.open(node.name, flags, dir_fd=directory)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != node.identity:  # another file has taken its place
            os.close(descriptor)
            raise Refused(errno.ESTALE)
        return descriptor

    def _inode(self, device: int, inode: int) -> int:
        """Return an inode number that is another one for a file of another file system."""
        return inode if device == self._device else (inode ^ device << 40) & (OVERLAID - 1)

    def _node(
        self, parent: Node | None, name: bytes, status: os.stat_result, layer: Layer | None
    ) -> Node:
        inode = self._inode(status.st_dev, status.st_ino)
        times = [
            divmod(time, 10**9)
            for time in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
        ]
        attributes = ATTRIBUTES.pack(
            inode, status.st_size, status.st_blocks,
            *(seconds & 0xFFFF_FFFF_FFFF_FFFF for seconds, _ in times),
            *(rest for _, rest in times),
            status.st_mode, 1 if layer else min(status.st_nlink, 0xFFFF_FFFF),
            status.st_uid, status.st_gid,
            _device(os.major(status.st_rdev), os.minor(status.st_rdev)), PAGE, 0,
        )  # fmt: skip
        identity = (status.st_dev, status.st_ino)
        return Node(parent, name, status.st_mode, inode, attributes, identity, layer)


def _overlaid_node(parent: Node, name: bytes, layer: Layer) -> Node:
    entry = layer.entry
    mode = entry.mode if entry else stat.S_IFDIR | 0o755
    uid, gid = (entry.uid, entry.gid) if entry else (0, 0)
    size = len(entry.data) if entry else 0
    device = _device(*entry.device) if entry else 0
    attributes = ATTRIBUTES.pack(
        layer.number, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, 1, uid, gid, device, PAGE, 0
    )
    return Node(parent, name, mode, layer.number, attributes, None, layer)


def _data(node: Node) -> bytes:
    return node.layer.entry.data if node.layer and node.layer.entry else b""


def _device(major: int, minor: int) -> int:
    """Return a device's number as the kernel exchanges it: new_encode_dev."""
    return (minor & 0xFF | major << 8 | (minor & ~0xFF) << 12) & 0xFFFF_FFFF


def _kind(entry: os.DirEntry[str]) -> int:
    """Return a type as ``struct dirent`` has it, 0 where the file system did not tell."""
    if entry.is_symlink():
        return stat.S_IFLNK >> 12
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR >> 12
    return stat.S_IFREG >> 12 if entry.is_file(follow_symlinks=False) else 0
