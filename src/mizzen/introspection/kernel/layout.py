"""Where guest RAM lies: from the guest's own map of it, whatever its hypervisor is.

RAM begins at 0. What does not fit below the hole for devices, which ends at 4 GiB, goes on
above it. A hypervisor has both parts in one mapping, one behind the other, or in two.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mizzen.introspection.memory.physical import Range
from mizzen.introspection.memory.ram import Part, Source

HOLE_END = 4 << 30
ENTRY = struct.Struct("<QQI")
"""struct boot_e820_entry, arch/x86/include/uapi/asm/setup_data.h: address, size, type."""
ENTRIES_MAX = 128
RAM = 1
TYPES_MAX = 20
CERTAIN = 2 << 30
"""Bytes of RAM that every hypervisor has in one piece."""

_FIRST = re.compile(rb"\0{8}[\0-\xff]{2}[\0-\x0a]\0{5}\x01\0\0\0(?=[\0-\xff]{12}\0{4})", re.DOTALL)
"""The first entry, up to 640 KiB of RAM at 0, and the beginning of another."""


@dataclass(frozen=True, slots=True)
class Home:
    """The mapping in which the kernel was found, and what its offsets lack to be physical."""

    source: Source
    delta: int


def firmware_map(data: bytes) -> list[tuple[Range, int]]:
    """Find a memory map (e820) in the kernel's data: ranges and their types; [] if there is none.

    boot_params holds the one that the firmware or the loader gave, and stays for good.
    """
    for found in _FIRST.finditer(data):
        entries = _entries(data, found.start())
        if any(kind == RAM and area.start >= 1 << 20 for area, kind in entries):
            return entries
    return []


def _entries(data: bytes, position: int) -> list[tuple[Range, int]]:
    entries: list[tuple[Range, int]] = []
    while len(entries) < ENTRIES_MAX and position + ENTRY.size <= len(data):
        start, size, kind = ENTRY.unpack_from(data, position)
        position += ENTRY.size
        if not size or not 1 <= kind <= TYPES_MAX or start + size > 1 << 52:
            break
        if entries and start < entries[-1][0].end:
            break
        entries.append((Range(start, size), kind))
    return entries


def parts(
    home: Home, sources: Sequence[Source], firmware: Sequence[tuple[Range, int]]
) -> list[Part] | None:
    """Return where RAM is in the mappings, None if they do not agree with the guest's map.

    sources: all mappings that may hold RAM, home's among them.
    """
    source, delta = home.source, home.delta
    top = max((area.end for area, kind in firmware if kind == RAM), default=0)
    high = max(0, top - HOLE_END)
    if not high:
        return _one(source, delta) if firmware or source.size <= CERTAIN else None
    if delta in {0, -high} and source.size > high:  # the kernel is low; both are in one mapping
        low = source.size - high
        return _both(source, low, high, low_first=delta == 0)
    if delta == HOLE_END and source.size > high:  # the kernel is high, that part comes first
        return _both(source, source.size - high, high, low_first=False)
    low = HOLE_END - delta
    if 0 < low < HOLE_END and low + high == source.size:
        return _both(source, low, high, low_first=True)
    below = max(
        (area.end for area, kind in firmware if area.end <= HOLE_END and kind == RAM), default=0
    )
    return _apart(home, sources, below, high)


def _one(source: Source, delta: int) -> list[Part] | None:
    if delta > 0 or -delta >= source.size:
        return None
    return [Part(Range(0, min(source.size + delta, HOLE_END)), source, -delta)]


def _both(source: Source, low: int, high: int, *, low_first: bool) -> list[Part] | None:
    if low > HOLE_END:
        return None
    at_low, at_high = (0, low) if low_first else (high, 0)
    return [Part(Range(0, low), source, at_low), Part(Range(HOLE_END, high), source, at_high)]


def _apart(home: Home, sources: Sequence[Source], low: int, high: int) -> list[Part] | None:
    """The two parts are mappings of their own, which their sizes tell from others."""
    others = [source for source in sources if source is not home.source]
    if home.delta == HOLE_END and home.source.size == high:
        fitting = [source for source in others if low <= source.size < HOLE_END]
        if not fitting:
            return None
        below = _one(min(fitting, key=lambda source: source.size), 0)
        above = home.source
    else:
        fitting = [source for source in others if source.size == high]
        below = _one(home.source, home.delta)
        if len(fitting) != 1:
            return None
        above = fitting[0]
    return [*below, Part(Range(HOLE_END, high), above, 0)] if below else None
