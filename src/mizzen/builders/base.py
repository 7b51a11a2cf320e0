"""Base images made from Debian packages, for where no container registry can be reached.

They have this host's Debian suite, apt's own sources and no manuals, so that a Dockerfile can
add packages as on any other Debian image. Each is made once, when something first asks for it;
``buildah rmi`` makes the next one ask anew.
"""

from __future__ import annotations

import json
from pathlib import Path

from mizzen.host.cache import workshop
from mizzen.host.paths import Folders
from mizzen.model.progress import Progress, Report

from . import apt, bootstrap, oci
from .bootstrap import Recipe
from .buildah import Buildah

PACKAGES = {
    "localhost/mizzen/base": ("passwd",),
    "localhost/mizzen/python": ("passwd", "python3"),
}
"""Base images, and what each has beyond Debian's essential packages and apt (passwd: useradd)."""

COMMANDS = {"localhost/mizzen/base": "/bin/sh", "localhost/mizzen/python": "/usr/bin/python3"}

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What names this host, or differs from one run to the next.
CLEAN = (
    'rm -rf "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/etc/machine-id'
    ' "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/cache/ldconfig/* "$1"/var/cache/apt/*.bin'
    ' "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/etc/*-'
    ' "$1"/run/*;'
    ' find "$1"/var/log -type f -delete'
)


def made_here(reference: str) -> str | None:
    """Return the base image that a reference names, None if it is none of ours."""
    name = reference.removesuffix(":latest")
    return name if name in PACKAGES else None


async def ensure(buildah: Buildah, folders: Folders, name: str, report: Report) -> None:
    """Make a base image unless it exists.

    Raises Failure if Debian's mirror cannot be reached or there is no disk space.
    """
    name = f"{name}:latest"
    if name in (await oci.stored(buildah)).names:
        return
    what = f"cannot make image {name}"
    async with workshop(folders.cache / "bases", what) as place:
        if name in (await oci.stored(buildah)).names:  # somebody else made it meanwhile
            return
        archive = await _bootstrap(buildah, name, place, what, report)
        task = f"storing {name}"
        report(Progress(task))
        await _store(buildah, name, archive, what)
        report(Progress(task, finished=True))


async def _bootstrap(buildah: Buildah, name: str, place: Path, what: str, report: Report) -> Path:
    suite = apt.this_suite()
    # usr-is-merged: without it, bookworm's usrmerge brings 60 MB of perl.
    packages = ("usr-is-merged", *PACKAGES[name.removesuffix(":latest")])
    return await bootstrap.make(
        Recipe("apt", packages, ("--customize-hook", CLEAN)),
        suite,
        prefix=buildah.prefix,
        place=place,
        task=f"making {name} from packages of Debian {suite}",
        what=what,
        report=report,
    )


async def _store(buildah: Buildah, name: str, archive: Path, what: str) -> None:
    async with buildah.container("scratch", what) as container:
        scratch = archive.parent
        await buildah("add", "--quiet", container, archive, "/", what=what, scratch=scratch)
        command = COMMANDS[name.removesuffix(":latest")]
        settings = ("--cmd", json.dumps([command]), "--env", f"PATH={PATH}")
        await buildah("config", *settings, container, what=what)
        commit = ("commit", "--quiet", "--timestamp", "0", container, name)
        await buildah(*commit, what=what, scratch=scratch)
