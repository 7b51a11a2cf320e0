"""What processes take up: their share of a CPU, their memory."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.model.errors import Failure

from .console import WHAT, Console

KIB = 1024
GUEST_TICK = 0.01
"""Seconds of a tick in /proc/PID/stat of x86: USER_HZ is 100 whatever HZ is."""
NAME = "mizzen"
"""What the session's own process in the guest is called."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping of a process. permissions: as in /proc/PID/maps. resident: bytes."""

    permissions: str
    resident: int


def cpu_ticks(stat: str) -> int:
    """Return the ticks, user and system, that a line of /proc/PID/stat tells; see proc(5)."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def host_cpu(pid: int) -> float:
    """Return the seconds of CPU that a process of this host has had. Raises OSError."""
    return cpu_ticks(Path(f"/proc/{pid}/stat").read_text()) / os.sysconf("SC_CLK_TCK")


def session_cpu(console: Console) -> float:
    """Return the seconds of CPU that the session's own processes in the guest have had."""
    stats = console.run(f"cat /proc/[0-9]*/stat 2>/dev/null | grep '^[0-9]* ({NAME})'")
    if not stats:
        raise Failure(WHAT, "the session's process is not among the guest's")
    return sum(map(cpu_ticks, stats.splitlines())) * GUEST_TICK


def parse_smaps(text: str) -> Iterator[Mapping]:
    """Yield the mappings of /proc/PID/smaps."""
    permissions = ""
    for line in text.splitlines():
        if found := re.match(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) ", line):
            permissions = found[1]
        elif found := re.match(r"Rss: +(\d+) kB", line):
            yield Mapping(permissions, int(found[1]) * KIB)


def hypervisor_memory(pid: int) -> tuple[int, int]:
    """Return resident bytes of a hypervisor, and apart those of TCG's translated code."""
    mappings = list(parse_smaps(Path(f"/proc/{pid}/smaps").read_text()))
    code = sum(one.resident for one in mappings if one.permissions.startswith("rwx"))
    return sum(one.resident for one in mappings) - code, code


def session_memory(console: Console) -> int:
    """Return the bytes of the guest that a session takes, as the guest tells.

    They are its own processes' pages, the channel among them, and its tools in a tmpfs.
    """
    found = console.run(
        f"for i in $(pidof {NAME}); do grep ^Pss: /proc/$i/smaps_rollup; done; "
        f"set -- $(pidof {NAME}); stat -f -c 'tools %b %f %S' /proc/$1/root"
    )
    resident = [int(kib) * KIB for kib in re.findall(r"Pss:\s+(\d+) kB", found)]
    tools = re.search(r"tools (\d+) (\d+) (\d+)", found)
    if not resident or tools is None:
        raise Failure(WHAT, "the session's process is not among the guest's")
    total, free, size = map(int, tools.groups())
    return sum(resident) + (total - free) * size


def settled(seconds: float) -> None:
    """Let time pass: what is measured is what happens when nobody does anything."""
    time.sleep(seconds)
