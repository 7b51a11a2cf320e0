"""The little that is read of a Dockerfile: which images it starts from.

Source: the Dockerfile reference, "FROM" and "COPY --from".
"""

from __future__ import annotations

import re
from pathlib import Path

from mizzen.model.errors import Failure

NAMES = ("Containerfile", "Dockerfile")
"""In the order in which buildah looks for them."""

FROM = re.compile(r"\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
COPY = re.compile(r"\s*(?:COPY|ADD)\s+(?:--\S+\s+)*--from=(\S+)", re.IGNORECASE)
MOUNT = re.compile(r"\s--mount=\S*\bfrom=([^,\s]+)")


def find(folder: Path) -> Path:
    """Return a folder's Dockerfile; a Failure if it has none."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise Failure(f"cannot build {folder}", "it holds no Dockerfile", "name a folder that has one")


def bases(text: str) -> tuple[str, ...]:
    """Return the images that a Dockerfile builds on, in its order, each once.

    Names of earlier stages, ``scratch`` and names with variables are left out.
    """
    stages = {"scratch"}
    found: dict[str, None] = {}
    number = 0
    for line in text.replace("\\\n", " ").splitlines():
        if start := FROM.match(line):
            names = [start[1]]
        else:
            copied = COPY.match(line)
            names = [copied[1]] if copied else MOUNT.findall(line)
        for name in names:
            if "$" not in name and name.lower() not in stages:
                found[name] = None
        if start:
            stages |= {(start[2] or "").lower(), str(number)}
            number += 1
    return tuple(found)
