"""Be told when a file in a folder changes, through inotify(7)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from mizzen.model.errors import Failure

_libc = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/inotify.h
_MODIFY, _ATTRIB, _MOVED, _CREATE, _DELETE = 0x2, 0x4, 0xC0, 0x100, 0x200
_MOVE_SELF = 0x800
_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")


class Changes:
    """Sets an event whenever a file in a watched folder is written, created, moved or deleted.

    One inotify instance serves all folders, because a user may only have 128. It belongs to the
    running event loop.

    any: set whenever the event of any folder is.
    """

    def __init__(self) -> None:
        self.any = asyncio.Event()
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise Failure(
                "cannot watch folders",
                os.strerror(ctypes.get_errno()),
                "raise fs.inotify.max_user_instances with sysctl",
            )
        self._events: dict[int, asyncio.Event] = {}
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def watch(self, folder: Path) -> asyncio.Event | None:
        """Return the event that is set at each change; None while the folder cannot be watched.

        Clear it before looking at the files. It is set for good once the folder is gone: watch
        it anew then.
        """
        mask = _MODIFY | _ATTRIB | _MOVED | _CREATE | _DELETE | _MOVE_SELF
        watch = _libc.inotify_add_watch(self._fd, os.fsencode(folder), ctypes.c_uint32(mask))
        if watch < 0:
            return None
        return self._events.setdefault(watch, asyncio.Event())

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 64 << 10)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            touched = list(self._events.values()) if watch < 0 else []  # the queue ran over
            if watch in self._events:
                touched = [self._events[watch]]
            for event in touched:
                event.set()
            self.any.set()
            if mask & _IGNORED:
                self._events.pop(watch, None)
