"""The file behind memory, and which parts of it hold anything."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .mappings import Mapping
from .physical import Range


def link(pid: int, mapping: Mapping) -> Path:
    """Return a link to a mapping's file, which may have no name any more.

    A descriptor asks for less privilege than /proc/PID/map_files, but may have been closed.
    """
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            status = path.stat()
            device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
            if (device, status.st_ino) == (mapping.device, mapping.inode):
                return path
    return Path(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")


def extents(file: int, position: int, end: int) -> Iterator[Range]:
    """Yield the parts of a file, from a position to an end, that are no holes."""
    while position < end:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if start >= end:
            return
        position = min(os.lseek(file, start, os.SEEK_HOLE), end)
        yield Range(start, position - start)
