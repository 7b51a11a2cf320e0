"""The kept corpus: few and small inputs, which together reach all that was ever reached."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

import mizzen

from .limits import limited

SIZE_MAX = 4096
"""Bytes of one input."""
FOLDER_MAX = 64 << 10
"""Bytes of all that is kept of one target."""
SOURCES = str(Path(mizzen.__file__).parent)

Arc = tuple[str, int, int]
"""A file, a line, and the one that ran after it."""


def reached(target: Callable[[bytes], None], data: bytes) -> set[Arc]:
    """Return the steps that a target takes from line to line."""
    found: set[Arc] = set()
    last: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        name = frame.f_code.co_filename
        if not name.startswith(SOURCES):
            return None
        if event == "line":
            found.add((name, last.get(id(frame), 0), frame.f_lineno))
        last[id(frame)] = frame.f_lineno
        return trace

    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(None)
    return found


def add(target: Callable[[bytes], None], folder: Path, found: Iterable[Path]) -> int:
    """Keep of what was found what reaches more, the shortest first; return how many that are."""
    kept = list(folder.iterdir())
    known: set[Arc] = set().union(*(reached(target, path.read_bytes()) for path in kept))
    size, added = sum(path.stat().st_size for path in kept), 0
    for path in sorted(found, key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        with limited(60):
            steps = reached(target, data)
        if steps <= known or len(data) > SIZE_MAX or size + len(data) > FOLDER_MAX:
            continue
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        known |= steps
        size += len(data)
        added += 1
    return added
