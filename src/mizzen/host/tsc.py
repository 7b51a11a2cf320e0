"""The rate of the processor's time stamp counter."""

from __future__ import annotations

import ctypes
import mmap
import re
import time
from pathlib import Path

from mizzen.model.errors import Failure

RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""rdtsc; shl rdx, 32; or rax, rdx; ret"""

SPAN = 0.05
"""Seconds that are measured: errors of a microsecond become 20 parts in a million."""


def measure_khz() -> int:
    """Return the counter's rate in kHz.

    Measured against the monotonic clock, because /proc/cpuinfo tells the core's rate of the
    moment, which is another where frequencies scale. That is used where code cannot be mapped.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return _cpuinfo_khz()
    page.write(RDTSC)
    address = ctypes.c_char.from_buffer(page)
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(address))
    first_time, first = _sample(rdtsc)
    time.sleep(SPAN)
    last_time, last = _sample(rdtsc)
    del address, rdtsc
    page.close()
    return round((last - first) * 1_000_000 / (last_time - first_time))


def _sample(rdtsc: ctypes._CFunctionType) -> tuple[int, int]:
    """Return (nanoseconds, counter) of one instant: of several tries the least disturbed."""
    best = (1 << 62, 0, 0)
    for _ in range(20):
        before = time.monotonic_ns()
        counter = int(rdtsc())
        after = time.monotonic_ns()
        best = min(best, (after - before, (before + after) // 2, counter))
    return best[1], best[2]


def _cpuinfo_khz() -> int:
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if not found:
        raise Failure(
            "cannot find the rate of this processor's clock", "/proc/cpuinfo does not tell it"
        )
    return round(float(found[1]) * 1000)
