"""Read a file that others append to, from where one left off.

The file may not be there yet, be cut short, be replaced by another, end in the middle of a line
or hold a line without end. A position tells the place in the file together with the bytes just
before it, so that another file in the same place is noticed and read from its beginning, even
one that has grown past the old place meanwhile.

A file that was moved away while nobody followed it is not looked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from mizzen.host.files import explained

LONGEST = 16 << 10
"""Bytes kept of a line; the rest of it is skipped."""

BATCH = 64 << 10
"""Bytes read at once."""

MARK = 64


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, at the beginning of a line.

    mark: the bytes just before it. torn: it is inside a line whose beginning was already told,
    and whose rest is skipped.
    """

    offset: int = 0
    mark: bytes = b""
    torn: bool = False


class Tail:
    """Reads the lines of one file that come after a position."""

    def __init__(self, path: Path, position: Position) -> None:
        self.path = path
        self.position = position
        self._file: FileIO | None = None

    def read(self, *, last: bool = False) -> list[str]:
        """Return the whole lines that have come, at most a batch of them; none at the end.

        last: nothing more will be written, so what stands after the last newline is a line too.
        """
        with explained(f"cannot follow {self.path.name}"):
            if self._file is None and not self._open():
                return []
            lines = self._read(last=last)
            if not lines and self._replaced():
                self.close()
                self.position = Position()
                lines = self._read(last=last) if self._open() else []
        return lines

    def close(self) -> None:
        """Let the file go; the position stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = FileIO(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except FileNotFoundError:
            return False
        return True

    def _replaced(self) -> bool:
        """Whether another file now has the path; one that is missing may yet come back."""
        assert self._file is not None
        ours = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)

    def _read(self, *, last: bool) -> list[str]:
        assert self._file is not None
        if not self._same():
            self.position = Position()
        lines: list[str] = []
        while True:  # a batch may hold nothing but the middle of a line that is skipped
            data = os.pread(self._file.fileno(), BATCH, self.position.offset)
            used, found, torn = _split(data, torn=self.position.torn, last=last)
            lines += found
            if not used:
                return lines
            mark = (self.position.mark + data[:used])[-MARK:]
            self.position = replace(
                self.position, offset=self.position.offset + used, mark=mark, torn=torn
            )
            if lines:
                return lines

    def _same(self) -> bool:
        assert self._file is not None
        mark, offset = self.position.mark, self.position.offset
        return os.pread(self._file.fileno(), len(mark), offset - len(mark)) == mark


def _split(data: bytes, *, torn: bool, last: bool) -> tuple[int, list[str], bool]:
    """Return how many bytes are used up, the lines in them, and whether a line is torn after."""
    lines: list[str] = []
    used = 0
    while used < len(data):
        end = data.find(b"\n", used)
        length = (end if end >= 0 else len(data)) - used
        if end < 0 and not torn and not last and length <= LONGEST:
            break  # the rest of the line has not come
        if not torn:
            lines.append(data[used : used + min(length, LONGEST)].decode(errors="replace"))
        torn = end < 0
        used = end + 1 if end >= 0 else len(data)
    return used, lines, torn
