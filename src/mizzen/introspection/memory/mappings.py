"""What a process has mapped, and which of it may be a guest's RAM."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MINIMUM = 8 << 20
"""No Linux guest worth entering has less RAM, in bytes."""

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) (\S+) (\d+) *(.*)")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps: addresses in the process, offset in the file."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    @property
    def shared(self) -> bool:
        """Whether it is a shared mapping of a file, which others may map too."""
        return self.permissions.endswith("s")


def parse(text: str) -> list[Mapping]:
    """Read the text of /proc/PID/maps; lines of another shape are passed over."""
    return [
        Mapping(
            int(start, 16), int(end, 16), permissions, int(offset, 16), device, int(inode), path
        )
        for start, end, permissions, offset, device, inode, path in _LINE.findall(text)
    ]


def candidates(mappings: list[Mapping]) -> list[Mapping]:
    """Return what may be guest RAM, largest first: plain data, never executable.

    QEMU's translation buffer, often the largest mapping of all, is executable.
    """
    likely = [m for m in mappings if m.permissions.startswith("rw-") and m.size >= MINIMUM]
    return sorted(likely, key=lambda m: m.size, reverse=True)


def of_process(pid: int) -> list[Mapping]:
    """Return the mappings of a process. Raises OSError as /proc does."""
    return parse(Path(f"/proc/{pid}/maps").read_text())
