"""Base images made from Debian packages, for where no container registry can be reached.

They have this host's Debian suite, apt's own sources and no manuals, so that a Dockerfile can
add packages as on any other Debian image. Each is made once, when something first asks for it;
``buildah rmi`` makes the next one ask anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.progress import Progress, Report

from . import apt, oci
from .buildah import Buildah
from .cache import workshop

PACKAGES = {
    "localhost/mizzen/base": ("passwd",),
    "localhost/mizzen/python": ("passwd", "python3"),
}
"""Base images, and what each has beyond Debian's essential packages and apt (passwd: useradd)."""

COMMANDS = {"localhost/mizzen/base": "/bin/sh", "localhost/mizzen/python": "/usr/bin/python3"}

EXCLUDED = ("doc/*", "info/*", "lintian/*", "locale/*", "man/*", "bug/*")
"""Below /usr/share, never unpacked; copyright files are."""

HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
STAGES = (
    "running apt-get update", "downloading packages", "extracting archives", "installing essential",
    "installing remaining", "cleaning package lists", "creating tarball", "success",
)  # fmt: skip
"""What mmdebstrap says it does, in this order."""

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


def arguments(name: str, suite: str, archive: Path, proxy: Path, *, root: bool) -> list[str]:
    """Return the mmdebstrap command that makes a base image's files, sources on stdin."""
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{path}" for path in EXCLUDED]
    merged = [f"--hook-dir={HOOKS}"] if suite == "bookworm" else []
    return [
        "mmdebstrap",
        f"--mode={'root' if root else 'unshare'}",
        "--variant=apt",
        "--format=tar",
        "--architectures=amd64",
        # Without it, bookworm's usrmerge brings 60 MB of perl.
        f"--include={','.join(('usr-is-merged', *PACKAGES[name]))}",
        *excludes,
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=force-unsafe-io",
        f"--aptopt={proxy}",
        *merged,
        f"--customize-hook={CLEAN}",
        suite,
        str(archive),
        "-",
    ]


async def ensure(buildah: Buildah, folders: Folders, name: str, report: Report) -> None:
    """Make a base image unless it exists.

    Raises Failure if Debian's mirror cannot be reached or there is no disk space.
    """
    name = f"{name}:latest"
    if name in await oci.names(buildah):
        return
    what = f"cannot make image {name}"
    async with workshop(folders.cache / "bases", what) as place:
        if name in await oci.names(buildah):  # somebody else made it meanwhile
            return
        archive = await _bootstrap(buildah, name, place, what, report)
        task = f"storing {name}"
        report(Progress(task))
        await _store(buildah, name, archive, what)
        report(Progress(task, finished=True))


async def _bootstrap(buildah: Buildah, name: str, place: Path, what: str, report: Report) -> Path:
    archive = place / "root.tar"
    suite = apt.this_suite()
    task = f"making {name} from packages of Debian {suite}"

    def on_line(line: str) -> None:
        for number, stage in enumerate(STAGES):
            if line.startswith(f"I: {stage}"):
                report(Progress(task, number, len(STAGES)))

    sources, settings = await apt.for_others(suite, place, what)
    root = os.geteuid() == 0
    # Without root, mmdebstrap works as another user, who cannot enter the workshop.
    where = {"TMPDIR": str(place)} if root else {}
    report(Progress(task, 0, len(STAGES)))
    await run(
        *buildah.prefix,
        *arguments(name.removesuffix(":latest"), suite, archive, settings, root=root),
        what=what,
        stdin=sources.encode(),
        env={"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8", **where},
        on_line=on_line,
        explain=explain,
    )
    report(Progress(task, len(STAGES), len(STAGES), finished=True))
    return archive


async def _store(buildah: Buildah, name: str, archive: Path, what: str) -> None:
    async with buildah.container("scratch", what) as container:
        scratch = archive.parent
        await buildah("add", "--quiet", container, archive, "/", what=what, scratch=scratch)
        command = COMMANDS[name.removesuffix(":latest")]
        await buildah("config", "--cmd", json.dumps([command]), container, what=what)
        commit = ("commit", "--quiet", "--timestamp", "0", container, name)
        await buildah(*commit, what=what, scratch=scratch)


def explain(stderr: str) -> tuple[str, str]:
    """Tell from mmdebstrap's output why it failed, and what to do."""
    if "No space left on device" in stderr:
        return "No space left on device", "free some disk space"
    return apt.explain(stderr)
