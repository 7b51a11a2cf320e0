"""Mounts that end with the program that made them, however it ends."""

from __future__ import annotations

import os
from pathlib import Path

from mizzen.host.process import run
from mizzen.model.errors import Failure

PLAIN = ("unshare", "--mount", "--propagation", "private")

# In a bare chroot "/" is no mount, and what buildah and unshare do to "/" fails with EINVAL.
# There, "/" is bound to a folder and entered again. The folder is one of /proc, since /proc is
# the one mount that a chroot is sure to have: made private, it keeps the binding from spreading
# to the host.
BARE = (
    "unshare", "--mount", "--propagation", "unchanged", "sh", "-euc",
    "mount --make-private /proc; mount --rbind / /proc/fs; mount --make-rprivate /proc/fs;"
    ' exec chroot /proc/fs "$@"', "sh",
)  # fmt: skip


def in_bare_chroot() -> bool:
    """Whether "/" is no mount (proc_pid_mountinfo(5): the fifth field is the mount point)."""
    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    return all(row.split()[4] != "/" for row in rows)


async def own() -> tuple[str, ...]:
    """Return the beginning of a command whose mounts are its own.

    It is empty without root, and where no mount namespace can be made: there is nothing mounted.
    """
    if os.geteuid():
        return ()
    command = BARE if in_bare_chroot() else PLAIN
    try:
        await run(*command, "true", what="cannot make a mount namespace")
    except Failure:
        return ()
    return command
