"""How tools get into a guest: copied into its memory, or served from here as they are used."""

from __future__ import annotations

from enum import Enum, auto

from mizzen.model.errors import Failure

SHARE = 50
"""Percent of the memory that the guest could give without hardship; so much may hold tools."""
LEAST = 4 << 20
"""Bytes that tools may take up in any guest: busybox."""
COPIED_MOST = 8 << 20
"""Bytes beyond which tools are rather served: copying them would be felt."""
INODE = 1 << 10
"""Bytes of the guest's kernel for a file in a tmpfs (inode and dentry; a little less on 6.x)."""


class Way(Enum):
    """How tools get into a guest."""

    COPY = auto()
    SERVE = auto()


def room(available: int) -> int:
    """Return how many bytes of a guest's available memory tools may take up."""
    return max(available * SHARE // 100, LEAST)


def way(*, size: int, count: int, available: int, fuse: bool) -> Way:
    """Choose how tools get into a guest.

    size: bytes of the tools in whole pages. count: files, folders and links.
    available: bytes that the guest could give without hardship; see MemAvailable in proc(5).
    fuse: whether it has FUSE. The guest says both, and can only spoil its own session.
    Raises Failure if neither way is open.
    """
    needed = size + count * INODE
    most = room(available)
    if needed <= (min(most, COPIED_MOST) if fuse else most):
        return Way.COPY
    if fuse:
        return Way.SERVE
    raise Failure(
        "cannot bring the tools",
        f"they need {_mib(needed)} MiB, the guest may give {_mib(most)} MiB"
        f" ({SHARE} % of the {_mib(available)} MiB it has available), and it lacks FUSE,"
        " by which they would be served instead",
        "bring smaller tools, or load the guest's module fuse",
    )


def _mib(size: int) -> int:
    return -(-size >> 20)
