"""Debian packages become a root file system, by mmdebstrap.

The suite, mirror and proxy are the host's; packages are checked against Debian's keyring.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.process import run
from mizzen.model.progress import Progress, Report

from . import apt

EXCLUDED = ("doc/*", "info/*", "lintian/*", "locale/*", "man/*", "bug/*")
"""Below /usr/share, never unpacked; copyright files are."""

HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
STAGES = (
    "running apt-get update", "downloading packages", "extracting archives", "installing essential",
    "installing remaining", "cleaning package lists", "creating tarball", "success",
)  # fmt: skip
"""What mmdebstrap says it does, in this order."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make. variant: mmdebstrap's. hook: its option that runs a shell command, and that.

    excluded: paths that are not unpacked, besides ``EXCLUDED``.
    """

    variant: str
    packages: tuple[str, ...]
    hook: tuple[str, str]
    excluded: tuple[str, ...] = ()


def arguments(recipe: Recipe, suite: str, archive: Path, proxy: Path, *, root: bool) -> list[str]:
    """Return the mmdebstrap command that makes a tar archive, sources on stdin."""
    excluded = [*(f"/usr/share/{path}" for path in EXCLUDED), *recipe.excluded]
    merged = [f"--hook-dir={HOOKS}"] if suite == "bookworm" else []
    option, command = recipe.hook
    return [
        "mmdebstrap",
        f"--mode={'root' if root else 'unshare'}",
        f"--variant={recipe.variant}",
        "--format=tar",
        "--architectures=amd64",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={path}" for path in excluded),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=force-unsafe-io",
        f"--aptopt={proxy}",
        *merged,
        f"{option}={command}",
        suite,
        str(archive),
        "-",
    ]


async def make(
    recipe: Recipe, suite: str, *, prefix: Sequence[str], place: Path, task: str,
    what: str, report: Report,
) -> Path:  # fmt: skip
    """Return a tar archive, made in a folder that holds nothing of worth.

    prefix: the beginning of a command whose mounts end with it. task: what users are told.
    Raises Failure if Debian's mirror cannot be reached or there is no disk space.
    """
    archive = place / "root.tar"

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
        *prefix,
        *arguments(recipe, suite, archive, settings, root=root),
        what=what,
        stdin=sources.encode(),
        env={"SOURCE_DATE_EPOCH": "0", "LC_ALL": "C.UTF-8", **where},
        on_line=on_line,
        explain=explain,
    )
    report(Progress(task, len(STAGES), len(STAGES), finished=True))
    return archive


def explain(stderr: str) -> tuple[str, str]:
    """Tell from mmdebstrap's output why it failed, and what to do."""
    if "No space left on device" in stderr:
        return "No space left on device", "free some disk space"
    return apt.explain(stderr)
