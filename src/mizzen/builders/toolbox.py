"""The default tools: programs to look into a guest with, out of Debian packages.

The packages are unpacked, not installed, so nothing of theirs runs but busybox, which tells the
names of its applets; they fill in for what no package brings. Users, groups and name servers are
those of the guest, which a session has at /guest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mizzen.model.progress import Report

from . import apt, bootstrap
from .bootstrap import Recipe

NAME = "default"

PACKAGES = (
    "base-files", "bash", "busybox-static", "ca-certificates", "coreutils", "curl", "findutils",
    "gdb-minimal", "grep", "iproute2", "less", "lsof", "ncurses-base", "procps", "psmisc", "sed",
    "strace", "tcpdump", "util-linux", "vim-tiny",
)  # fmt: skip
"""And what they depend on."""

EXCLUDED = (
    "/usr/lib/x86_64-linux-gnu/gconv/*",  # the C library has UTF-8 built in
    "/usr/share/bash-completion/*",
    "/usr/share/icons/*",
    "/usr/share/perl5/*",
)

# What the packages' own scripts would have done, as far as it matters here.
HOOK = """\
set -eu
cd "$1"
ln -sf bash usr/bin/sh
ln -sf vim.tiny usr/bin/vi
ln -sf vim.tiny usr/bin/vim
for name in passwd group hosts resolv.conf; do
  ln -sf "/guest/etc/$name" "etc/$name"
done
printf '%s: files\\n' passwd group services protocols >etc/nsswitch.conf
echo 'hosts: files dns' >>etc/nsswitch.conf
mkdir -p etc/ssl/certs usr/local/bin
cat usr/share/ca-certificates/mozilla/*.crt >etc/ssl/certs/ca-certificates.crt
for name in $(bin/busybox --list); do
  [ -e "usr/bin/$name" ] || [ -L "usr/bin/$name" ] || [ -e "usr/sbin/$name" ] ||
    ln -s /bin/busybox "usr/local/bin/$name"
done
rm -rf boot home media mnt opt srv etc/rc?.d etc/init.d etc/cron.daily etc/hostname
"""


def key() -> str:
    """Return what the default tools are called in the cache: suite, packages and all else."""
    recipe = "\n".join([*PACKAGES, *EXCLUDED, HOOK])
    return f"{NAME}-{apt.this_suite()}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


async def make(place: Path, prefix: Sequence[str], what: str, report: Report) -> Path:
    """Return a tar archive of the tools, made in a folder; see ``bootstrap.make``."""
    suite = apt.this_suite()
    return await bootstrap.make(
        Recipe("extract", PACKAGES, ("--extract-hook", HOOK), EXCLUDED),
        suite,
        prefix=prefix,
        place=place,
        task=f"making tools of packages of Debian {suite}",
        what=what,
        report=report,
    )
