"""Answers the requests of a guest's kernel about a tree of files, one after the other.

The guest is hostile: whatever comes, the answer is a reply, a refusal or nothing. A guest that is
told ENOSYS once stops asking for that operation; with OPEN, OPENDIR, ACCESS, GETXATTR and FLUSH
that spares it a round trip for every file. So there are no open files to keep: READ names a node,
and the tree keeps a bounded number of descriptors.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterable

from mizzen.host.cpio import Entry

from . import protocol
from .nodes import Nodes
from .protocol import Ability, Operation, Refused
from .tree import Name, Node, Tree

BACKGROUND = 16
"""Requests that the guest has under way for reading ahead."""

CHANGES = frozenset({
    Operation.SETATTR, Operation.SYMLINK, Operation.MKNOD, Operation.MKDIR, Operation.UNLINK,
    Operation.RMDIR, Operation.RENAME, Operation.LINK, Operation.WRITE, Operation.SETXATTR,
    Operation.REMOVEXATTR, Operation.CREATE, Operation.RENAME2, Operation.TMPFILE,
})  # fmt: skip

UNANSWERED = frozenset({Operation.FORGET, Operation.BATCH_FORGET, Operation.INTERRUPT})
"""INTERRUPT among them: what it is about is answered before it is read."""

Handler = Callable[[int, bytes], bytes]


class Server:
    """Serves a folder of this host. Not for several threads."""

    def __init__(self, folder: int, overlay: Iterable[Entry] = ()) -> None:
        """Serve a folder, and entries over it as ``overlay.overlaid`` lays them.

        folder: its descriptor, which stays the caller's. Files are opened when they are first
        read, with the privileges that are left then.
        """
        self._folder = folder
        self._tree = Tree(folder, overlay)
        self._nodes = Nodes(self._tree.root)
        self._abilities = 0
        self._handlers: dict[int, Handler] = {
            Operation.INIT: self._init,
            Operation.LOOKUP: self._look_up,
            Operation.GETATTR: self._get_attributes,
            Operation.READLINK: self._read_link,
            Operation.OPEN: self._open,
            Operation.READ: self._read,
            Operation.STATFS: self._file_system,
            Operation.RELEASE: self._nothing,
            Operation.OPENDIR: self._open_folder,
            Operation.READDIR: self._read_folder,
            Operation.READDIRPLUS: self._read_folder_plus,
            Operation.RELEASEDIR: self._nothing,
            Operation.DESTROY: self._nothing,
        }

    def close(self) -> None:
        """Close what is open."""
        self._tree.close()

    def handle(self, request: bytes) -> bytes | None:
        """Return what to write to /dev/fuse for what was read from it; None for nothing."""
        if len(request) < protocol.REQUEST.size:
            return None
        length, operation, unique, node, *_ = protocol.REQUEST.unpack_from(request)
        body = request[protocol.REQUEST.size :]
        if operation in UNANSWERED:
            self._forget(operation, node, body)
            return None
        try:
            if length != len(request):
                raise Refused(errno.EIO)
            handler = self._handlers.get(operation)
            if handler is None:
                raise Refused(errno.EROFS if operation in CHANGES else errno.ENOSYS)
            return protocol.reply(unique, handler(node, body))
        except Refused as refused:
            number = refused.number
        except OSError as error:
            number = error.errno or errno.EIO
        except struct.error:  # the body is too short
            number = errno.EIO
        return protocol.refusal(unique, number)

    def _init(self, _: int, body: bytes) -> bytes:
        major, minor, ahead, offered = protocol.INIT_IN.unpack_from(body)
        if major < protocol.MAJOR or (major == protocol.MAJOR and minor < protocol.MINOR_LEAST):
            raise Refused(errno.EPROTO)
        self._abilities = offered
        return protocol.INIT_OUT.pack(
            protocol.MAJOR, min(minor, protocol.MINOR) if major == protocol.MAJOR else 0,
            min(ahead, protocol.READ_MAX), offered & protocol.TAKEN,
            BACKGROUND, BACKGROUND * 3 // 4, protocol.PAGE, 1,
            protocol.READ_MAX // protocol.PAGE, 0,
        )  # fmt: skip

    def _forget(self, operation: int, node: int, body: bytes) -> None:
        if operation == Operation.FORGET:
            if len(body) >= protocol.FORGET_IN.size:
                self._nodes.forget(node, protocol.FORGET_IN.unpack_from(body)[0])
            return
        if operation != Operation.BATCH_FORGET or len(body) < protocol.FORGET_COUNT.size:
            return
        count, _ = protocol.FORGET_COUNT.unpack_from(body)
        start, size = protocol.FORGET_COUNT.size, protocol.FORGET_ONE.size
        for number in range(min(count, (len(body) - start) // size)):
            self._nodes.forget(*protocol.FORGET_ONE.unpack_from(body, start + number * size))

    def _look_up(self, node: int, body: bytes) -> bytes:
        name = protocol.name_of(body)
        try:
            number, found = self._entered(node, name)
        except (FileNotFoundError, Refused) as error:
            if isinstance(error, Refused) and error.number != errno.ENOENT:
                raise
            return protocol.ABSENT
        return protocol.entry(number, found.attributes)

    def _entered(self, parent: int, name: bytes) -> tuple[int, Node]:
        known = self._nodes.known(parent, name)
        if known is None:
            known = self._nodes.add(parent, self._tree.child(self._nodes[parent], name))
        self._nodes.count(known)
        return known, self._nodes[known]

    def _get_attributes(self, node: int, _: bytes) -> bytes:
        head = protocol.ATTRIBUTES_HEAD.pack(protocol.FOREVER, 0, 0)
        return head + self._nodes[node].attributes

    def _read_link(self, node: int, _: bytes) -> bytes:
        return self._tree.target(self._nodes[node])

    def _open(self, node: int, _: bytes) -> bytes:
        if self._abilities & Ability.NO_OPEN_SUPPORT:
            raise Refused(errno.ENOSYS)
        if not stat.S_ISREG(self._nodes[node].mode):
            raise Refused(errno.EINVAL)
        return protocol.OPENED.pack(0, protocol.KEEP_CACHE, 0)

    def _open_folder(self, node: int, _: bytes) -> bytes:
        if self._abilities & Ability.NO_OPENDIR_SUPPORT:
            raise Refused(errno.ENOSYS)
        if not stat.S_ISDIR(self._nodes[node].mode):
            raise Refused(errno.ENOTDIR)
        return protocol.OPENED.pack(0, protocol.KEEP_CACHE | protocol.CACHE_DIR, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        _, offset, size, *_ = protocol.READ_IN.unpack_from(body)
        if size > protocol.READ_MAX:
            raise Refused(errno.EINVAL)
        return self._tree.read(self._nodes[node], offset, size)

    def _file_system(self, _: int, __: bytes) -> bytes:
        found = os.fstatvfs(self._folder)
        return protocol.STATFS_OUT.pack(
            found.f_blocks, 0, 0, found.f_files, 0, found.f_bsize, protocol.NAME_MAX,
            found.f_frsize, 0,
        )  # fmt: skip

    def _nothing(self, _: int, __: bytes) -> bytes:
        return b""

    def _read_folder(self, node: int, body: bytes) -> bytes:
        return self._listed(node, body, plus=False)

    def _read_folder_plus(self, node: int, body: bytes) -> bytes:
        return self._listed(node, body, plus=True)

    def _listed(self, node: int, body: bytes, *, plus: bool) -> bytes:
        """Return a folder's names from an offset, as many as there is room for.

        plus: each with what looking it up would tell.
        """
        _, offset, size, *_ = protocol.READ_IN.unpack_from(body)
        room = min(size, protocol.READ_MAX)
        folder = self._nodes[node]
        names = self._tree.names(folder)
        dots = (
            Name(b".", folder.inode, stat.S_IFDIR >> 12),
            Name(b"..", (folder.parent or folder).inode, stat.S_IFDIR >> 12),
        )
        fixed = protocol.DIRENT.size + (len(protocol.NO_ENTRY) if plus else 0)
        parts: list[bytes] = []
        for position in range(offset, len(dots) + len(names)):
            is_dot = position < len(dots)
            name = dots[position] if is_dot else names[position - len(dots)]
            length = len(name.name)
            padding = -length % 8
            room -= fixed + length + padding
            if room < 0:
                break
            if plus:
                parts.append(protocol.NO_ENTRY if is_dot else self._described(node, name.name))
            parts += (
                protocol.DIRENT.pack(name.inode, position + 1, length, name.kind),
                name.name,
                bytes(padding),
            )
        return b"".join(parts)

    def _described(self, folder: int, name: bytes) -> bytes:
        try:
            number, found = self._entered(folder, name)
        except (OSError, Refused):
            return protocol.NO_ENTRY
        return protocol.entry(number, found.attributes)
