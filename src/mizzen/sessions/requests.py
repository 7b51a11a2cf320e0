"""What the host asks of stage 2, and what it answers, as payloads of frames.

Mirrors the structs of guest/attach/channel.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mizzen.model.errors import Failure, UsageError

from .channel import FRAME_MAX, Spoiled

STRINGS_MAX = 1024
PATH_MAX = 4095
PID_MAX = 1 << 22

_SETUP = struct.Struct("<II")
_READY = struct.Struct("<QII")


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's size in characters."""

    rows: int
    columns: int

    def pack(self) -> bytes:
        """Return it as struct size."""
        return struct.pack("<HH", min(self.rows, 0xFFFF), min(self.columns, 0xFFFF))


@dataclass(frozen=True, slots=True)
class Ready:
    """What a guest has to offer.

    available: bytes of memory that it could give without hardship. fuse: its kernel knows FUSE.
    terminals: its kernel has pseudo terminals.
    """

    available: int
    fuse: bool
    terminals: bool


def setup(guest_pid: int | None, share: int) -> bytes:
    """Return the payload of SETUP.

    guest_pid: whose namespaces to join. share: percent of ``Ready.available`` for the tools.
    Raises UsageError for what cannot be a process's number.
    """
    if guest_pid is not None and not 0 < guest_pid < PID_MAX:
        raise UsageError("cannot attach", f"{guest_pid} is no process id", "see ps in the guest")
    return _SETUP.pack(guest_pid or 0, share)


def read_ready(payload: bytes) -> Ready:
    """Return what READY tells. Raises Failure if that is nothing."""
    if len(payload) != _READY.size:
        raise Spoiled
    available, can, _ = _READY.unpack(payload)
    return Ready(available, bool(can & 1), bool(can & 2))


def run(arguments: list[str], environment: list[str], terminal: Size | None) -> bytes:
    """Return the payload of RUN: what to run, and whether on a terminal of which size.

    Raises Failure if that is more than fits.
    """
    strings = b"".join(_encoded(text) for text in arguments + environment)
    size = (terminal or Size(0, 0)).pack()
    counts = struct.pack("<II", len(arguments), len(environment))
    payload = struct.pack("<I", terminal is not None) + size + counts + strings
    if len(payload) > FRAME_MAX:
        raise Failure("cannot run the command", "it has more than 128 KiB of arguments")
    if len(arguments) + len(environment) > STRINGS_MAX:
        raise Failure("cannot run the command", f"it has more than {STRINGS_MAX} arguments")
    return payload


def path(text: str, name: str = "") -> bytes:
    """Return the payload of GET and PUT: a path in the guest.

    name: what something put there is called if the path is a folder.
    Raises Failure if the path is none.
    """
    if not text or len(_encoded(text)) > PATH_MAX:
        raise Failure("cannot copy files", "the guest's path is empty or too long")
    return _encoded(text) + _encoded(name)


def connect(port: int) -> bytes:
    """Return the payload of CONNECT."""
    return struct.pack("<H", port)


def _encoded(text: str) -> bytes:
    """Return a string with its end. Raises Failure if it cannot have one."""
    if "\0" in text:
        raise Failure("cannot tell the guest", "there is a NUL character in what was given")
    return text.encode(errors="surrogateescape") + b"\0"
