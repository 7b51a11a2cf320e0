"""What /dev/fuse says, as far as a read-only server needs it.

Source: include/uapi/linux/fuse.h, versions 7.23 to 7.41.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum

MAJOR = 7
MINOR = 31
"""What we speak. A newer kernel speaks it too (7.31 is Linux 5.2, which attach needs anyway)."""
MINOR_LEAST = 23

REQUEST_MAX = 8192
"""Bytes of a request: what a reader of /dev/fuse must have room for (FUSE_MIN_READ_BUFFER). More
never comes, as nothing is written to us."""
READ_MAX = 128 << 10
"""Bytes of payload of the largest reply."""
PAGE = 4096
NAME_MAX = 255
FOREVER = 10 * 365 * 86400
"""Seconds that the guest may believe a name and its attributes: the tree does not change."""


class Operation(IntEnum):
    """What a request asks for: enum fuse_opcode."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    SETXATTR = 21
    REMOVEXATTR = 24
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44
    RENAME2 = 45
    TMPFILE = 51


class Ability(IntEnum):
    """Flags of INIT: what the guest's kernel offers, and what we take of it."""

    ASYNC_READ = 1 << 0
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24


TAKEN = (
    Ability.ASYNC_READ
    | Ability.DO_READDIRPLUS
    | Ability.READDIRPLUS_AUTO
    | Ability.PARALLEL_DIROPS
    | Ability.MAX_PAGES
    | Ability.CACHE_SYMLINKS
)
KEEP_CACHE, CACHE_DIR = 1 << 1, 1 << 3

REQUEST = struct.Struct("<IIQQIIII")
REPLY = struct.Struct("<IiQ")
INIT_IN = struct.Struct("<IIII")
INIT_OUT = struct.Struct("<IIIIHHIIHH32x")
ATTRIBUTES = struct.Struct("<6Q3I7I")
ENTRY_HEAD = struct.Struct("<4QII")
ATTRIBUTES_HEAD = struct.Struct("<QII")
OPENED = struct.Struct("<QII")
READ_IN = struct.Struct("<QQIIQII")
STATFS_OUT = struct.Struct("<5Q4I24x")
FORGET_IN = struct.Struct("<Q")
FORGET_COUNT = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
DIRENT = struct.Struct("<QQII")

NO_ENTRY = bytes(ENTRY_HEAD.size + ATTRIBUTES.size)
"""Of READDIRPLUS: nothing is said of this name, the guest may look it up."""
ABSENT = ENTRY_HEAD.pack(0, 0, FOREVER, 0, 0, 0) + bytes(ATTRIBUTES.size)
"""Of LOOKUP: there is no such name, and there will be none."""


class Refused(Exception):  # noqa: N818 - what the guest is told, not a fault
    """A request that is answered with an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def reply(unique: int, payload: bytes) -> bytes:
    """Return the reply that carries what was asked for."""
    return REPLY.pack(REPLY.size + len(payload), 0, unique) + payload


def refusal(unique: int, number: int) -> bytes:
    """Return the reply that carries an errno; one that the protocol cannot carry becomes EIO."""
    return REPLY.pack(REPLY.size, -(number if 0 < number < 512 else errno.EIO), unique)


def entry(node: int, attributes: bytes) -> bytes:
    """Return a struct fuse_entry_out."""
    return ENTRY_HEAD.pack(node, 0, FOREVER, FOREVER, 0, 0) + attributes


def name_of(body: bytes) -> bytes:
    """Return the one name in a request's body. Raises Refused if no folder can hold it."""
    name = body[:-1]
    if body[-1:] != b"\0" or b"\0" in name or b"/" in name or name in {b"", b".", b".."}:
        raise Refused(errno.EINVAL)
    if len(name) > NAME_MAX:
        raise Refused(errno.ENAMETOOLONG)
    return name
