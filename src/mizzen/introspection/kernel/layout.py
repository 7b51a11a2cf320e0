"""Where guest RAM lies: from the guest's own map of it, whatever its hypervisor is.

RAM begins at 0. What does not fit below the hole for devices, which ends at 4 GiB, goes on
above it. A hypervisor has both parts in one mapping, one behind the other, or in two.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mizzen.introspection.memory.physical import Range
from mizzen.introspection.memory.ram import Part, Source

HOLE_END = 4 << 30
ENTRY = struct.Struct("<QQI")
"""struct boot_e820_entry, arch/x86/include/uapi/asm/setup_data.h: address, size, type."""
ENTRIES_MAX = 128
PLACES_MAX = 1 << 16
"""Places in the kernel's data that are tried; one in a thousand bytes looks like a map."""
RAM = 1
TYPES_MAX = 20
CONVENTIONAL_LEAST, CONVENTIONAL_MOST = 256 << 10, 640 << 10
"""Bytes of RAM that every PC has at 0, below the hole for VGA and firmware."""
CERTAIN = 2 << 30
"""Bytes of RAM that every hypervisor has in one piece."""

_PIVOT = bytes(5) + RAM.to_bytes(4, "little")
"""The end of an entry of less than 16 MiB of RAM: the upper bytes of its size, and its type."""
_PIVOT_AT = 11


@dataclass(frozen=True, slots=True)
class Home:
    """The mapping in which the kernel was found, and what its offsets lack to be physical."""

    source: Source
    delta: int


def firmware_map(data: bytes, image: Range) -> list[tuple[Range, int]]:
    """Find a memory map (e820) in the kernel's data: ranges and their types; [] if there is none.

    boot_params holds the one that the firmware or the loader gave, and stays for good.
    image: where the kernel is, which must be RAM by that map.
    """
    place = -1
    for _ in range(PLACES_MAX):
        place = data.find(_PIVOT, place + 1)
        if place < 0:
            break
        start = place - _PIVOT_AT
        if start >= 0 and not any(data[start : start + 8]):  # RAM begins at 0
            entries = _entries(data, start)
            if _plausible(entries, image):
                return entries
    return []


def _plausible(entries: list[tuple[Range, int]], image: Range) -> bool:
    if not entries or not CONVENTIONAL_LEAST <= entries[0][0].size <= CONVENTIONAL_MOST:
        return False
    ram = (area for area, kind in entries if kind == RAM)
    return any(area.start <= image.start and image.end <= area.end for area in ram)


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
    ends = [area.end for area, kind in firmware if kind == RAM]
    below = max((end for end in ends if end <= HOLE_END), default=0)
    high = max(0, max(ends, default=0) - HOLE_END)
    if not high:
        if not firmware and home.source.size > CERTAIN:
            return None
        return _one(home.source, home.delta, below)
    return _together(home, below, high) or _apart(home, sources, below, high)


def _one(source: Source, delta: int, below: int) -> list[Part] | None:
    """All RAM is below the hole."""
    size = min(source.size + delta, HOLE_END)
    if delta > 0 or size < max(below, 1):
        return None
    return [Part(Range(0, size), source, -delta)]


def _together(home: Home, below: int, high: int) -> list[Part] | None:
    """Both parts are in one mapping, and the kernel's place tells which comes first."""
    low = home.source.size - high
    if not below <= low <= HOLE_END:
        return None
    if home.delta in {0, HOLE_END - low}:  # the kernel is in the lower or in the upper part
        at_low, at_high = 0, low
    elif home.delta in {-high, HOLE_END}:
        at_low, at_high = high, 0
    else:
        return None
    return [
        Part(Range(0, low), home.source, at_low),
        Part(Range(HOLE_END, high), home.source, at_high),
    ]


def _apart(home: Home, sources: Sequence[Source], below: int, high: int) -> list[Part] | None:
    """The two parts are mappings of their own, which their sizes tell from others."""
    others = [source for source in sources if source is not home.source]
    if home.delta == HOLE_END and home.source.size == high:
        fitting = [source for source in others if below <= source.size < HOLE_END]
        lower = _one(min(fitting, key=lambda source: source.size), 0, below) if fitting else None
        upper = home.source
    else:
        fitting = [source for source in others if source.size == high]
        lower = _one(home.source, home.delta, below) if len(fitting) == 1 else None
        upper = fitting[0] if fitting else home.source
    return [*lower, Part(Range(HOLE_END, high), upper, 0)] if lower else None
