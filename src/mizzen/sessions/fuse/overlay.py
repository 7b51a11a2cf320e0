"""Entries that are laid over a folder: mount points, and small files that are nowhere else."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from mizzen.host.cpio import Entry

OVERLAID = 1 << 62
"""Added to the inode numbers of what is no file of the folder."""


@dataclass(slots=True)
class Layer:
    """What is laid over one name. entry: None for a folder that only has others in it."""

    number: int
    entry: Entry | None = None
    names: dict[bytes, Layer] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether it is one, which shows what a folder below it has."""
        return self.entry is None or stat.S_ISDIR(self.entry.mode)


def overlaid(entries: Iterable[Entry]) -> Layer:
    """Return entries as what lies over a folder.

    Folders that entries are in need no entry of their own. A folder shows what a folder below it
    has, and replaces anything else; any other entry replaces what is below it. Where a name comes
    twice, the later one counts. Raises ValueError for a name that leads elsewhere.
    """
    numbers = itertools.count(OVERLAID)
    root = Layer(next(numbers))
    for entry in entries:
        parts = os.fsencode(entry.name).split(b"/")
        if any(part in {b"", b".", b".."} or b"\0" in part for part in parts):
            raise ValueError(f"{entry.name!r} leads elsewhere")
        layer = root
        for part in parts:
            if not layer.is_folder:
                layer.entry = None
            layer = layer.names.setdefault(part, Layer(next(numbers)))
        layer.entry = entry
        if not layer.is_folder:
            layer.names.clear()
    return root
