"""Drop every privilege but the ones named.

Source: capabilities(7), capset(2), include/uapi/linux/capability.h.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38


class Capability(IntEnum):
    """Capabilities by number."""

    DAC_OVERRIDE = 1
    FOWNER = 3
    NET_ADMIN = 12
    SYS_PTRACE = 19
    SYS_ADMIN = 21


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def has(capability: Capability) -> bool:
    """Tell whether this process has a capability in effect."""
    return bool(_held("CapEff") >> capability & 1)


def keep_only(*wanted: Capability) -> None:
    """Give up, for ever, all capabilities but those wanted of the ones this process has.

    Those are in effect, also ones on files, which ``act_as_owner`` put out of effect.
    Raises OSError if the kernel refuses.
    """
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        if number not in wanted and os.geteuid() == 0:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    mask = sum(1 << number for number in wanted) & _held("CapPrm")
    words = [(mask >> shift) & 0xFFFF_FFFF for shift in (0, 32)]
    data = (_Data * 2)(*(_Data(word, word, 0) for word in words))
    _check(_libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data))


def act_as_owner(folder: Path) -> None:
    """Be whoever owns a folder, as far as files are concerned.

    So a process of root's that gives up its capabilities can still name files there. Does nothing
    for others. Source: setfsuid(2). Raises OSError if there is no such folder.
    """
    if os.geteuid() == 0:
        status = folder.stat()
        _libc.setfsgid(status.st_gid)
        _libc.setfsuid(status.st_uid)


def _held(kind: str) -> int:
    """Return one of this process's sets of capabilities: CapEff or CapPrm."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{kind}:"))
    return int(line.split()[1], 16)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
