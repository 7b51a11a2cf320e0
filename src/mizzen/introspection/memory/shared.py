"""Guest RAM in a shared file (a memfd, tmpfs, hugetlbfs): mapped here too, so access is free."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from .backing import extents, link
from .mappings import Mapping
from .physical import Range, check_range


class SharedMemory:
    """RAM as a file that this process maps; see ``Source``."""

    def __init__(self, pid: int, mapping: Mapping, *, writable: bool = True) -> None:
        """Open the file behind another process's mapping. Raises OSError as /proc does.

        writable: whether it is opened for more than looking.
        """
        flags = os.O_RDWR if writable else os.O_RDONLY
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._file = os.open(link(pid, mapping), flags | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(self._file, mapping.size, offset=mapping.offset, access=access)
        except BaseException:
            os.close(self._file)
            raise
        self._words = memoryview(self._map).cast("Q")
        self._offset = mapping.offset
        self.size = mapping.size

    def read(self, offset: int, size: int) -> bytes:
        """See ``Source``."""
        check_range((Range(0, self.size),), offset, size)
        return self._map[offset : offset + size]

    def write(self, offset: int, data: bytes) -> None:
        """See ``Source``."""
        check_range((Range(0, self.size),), offset, len(data))
        if len(data) == 8 and not offset % 8:
            self._words[offset // 8] = int.from_bytes(data, "little")  # one store
        else:
            self._map[offset : offset + len(data)] = data

    def blocks(self) -> Iterator[Range]:
        """See ``Source``."""
        for start, size in extents(self._file, self._offset, self._offset + self.size):
            yield Range(start - self._offset, size)

    def close(self) -> None:
        """Give the mapping and the file back."""
        self._words.release()
        self._map.close()
        os.close(self._file)
