"""The kernel's symbol table as it lies in RAM.

scripts/kallsyms.c lays several tables into .rodata, one after the other:

    offsets         s32 for each symbol: its address, see ``_addresses``
    relative_base   u64 that most offsets count from
    num_syms        u32
    names           for each symbol its length (one byte, two from 128 on: commit 73bbb94466fd)
                    and that many token numbers
    markers         u32 offset in names of every 256th symbol
    seqs_of_names   3 bytes for each symbol, its rank by name (commit 60443c88f3a8; in 6.1.y and
                    up to 6.3 here, afterwards last)
    token_table     256 strings, each ending in NUL, that names are put together from
    token_index     u16 offset in token_table of each of them

Since 6.4 (commit 404bad70fcf7) offsets and relative_base come after token_index. Since 7.0 there
is no relative_base: an offset counts from its own place. Tables are aligned to 8 bytes, in 7.x to
4; num_syms is followed by padding accordingly.

A digit or a letter that occurs in names is always its own token, so the ten strings "0" to "9"
stand side by side in token_table, and token_index, which repeats what one finds by walking
token_table, confirms the find.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

TOKENS = 256
TOKEN_MAX = 256
SYMBOLS_MIN, SYMBOLS_MAX = 1_000, 2_000_000
MARKER_EVERY = 256
NAME_MAX = 1024
MARKERS_SIZE = 4 * (SYMBOLS_MAX // MARKER_EVERY + 2)
LAST_NAMES = MARKER_EVERY * 128
"""Bytes that the names behind the last marker may take, at most."""
KERNEL_MAP = 0xFFFF_FFFF_8000_0000
"""Where x86-64 maps its kernel image: __START_KERNEL_map."""
MASK = (1 << 64) - 1

WINDOW_BEFORE, WINDOW_AFTER = 24 << 20, 8 << 20
"""How far from token_table the other tables may lie, in bytes."""

TABLE_REACH = 16 << 10
"""How far token_table and token_index reach from the digits in them, in bytes."""

SEPARATOR = b"\0"
"""What no name contains."""

DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")


@dataclass(frozen=True, slots=True)
class Symbols:
    """Symbols by name. Addresses are virtual, as the running kernel uses them.

    Of several symbols with one name the first counts.
    """

    by_name: dict[str, int]

    def address(self, names: str) -> int | None:
        """Return the address of the first of several names, parted by ``|``, that exists."""
        for name in names.split("|"):
            if name in self.by_name:
                return self.by_name[name]
        return None


@dataclass(frozen=True, slots=True)
class _Names:
    """The part of the tables that is alike in all layouts. Positions are in the window."""

    count: int
    start: int  # of num_syms
    strings: list[bytes]  # type letter and name of each symbol


def parse(window: bytes, window_address: int, digits: int) -> Symbols | None:
    """Read the symbol table whose token_table has DIGITS at a position of the window.

    window: RAM around it, ideally WINDOW_BEFORE and WINDOW_AFTER bytes of it.
    window_address: the window's virtual address, a multiple of 8.
    Returns None if there is none, whatever the bytes are.
    """
    table = _token_table(window, digits)
    if table is None:
        return None
    tokens, token_start, index_start = table
    names = _names(window, tokens, token_start)
    if names is None:
        return None
    addresses = _addresses(window, window_address, names, index_start + 2 * TOKENS)
    if addresses is None:
        return None
    text = SEPARATOR.join([string[1:] for string in names.strings]).decode("latin-1")
    strings = text.split(SEPARATOR.decode())
    if len(strings) != len(addresses):
        return None
    strings.reverse()
    addresses.reverse()
    return Symbols(dict(zip(strings, addresses, strict=True)))  # the last, so the first, counts


def has_table(window: bytes, digits: int) -> bool:
    """Tell whether token_table and token_index are around DIGITS, which is cheap to see."""
    return _token_table(window, digits) is not None


def _token_table(window: bytes, digits: int) -> tuple[list[bytes], int, int] | None:
    """Find the tokens around a run of digits: tokens, start of token_table and token_index."""
    first_end = digits
    for _ in range(ord("0")):  # each token before "0" ends in NUL; go back to the first's
        first_end = window.rfind(b"\0", 0, first_end)
        if first_end < 0:
            return None
    # What lies before token_table need not end in NUL, so any start of the first token may do.
    earliest = max(window.rfind(b"\0", 0, first_end) + 1, first_end - TOKEN_MAX)
    for start in range(first_end, earliest - 1, -1):
        parts = window[start : start + 4096].split(b"\0", TOKENS)
        if len(parts) <= TOKENS:
            continue
        tokens = parts[:TOKENS]
        offsets = [0]
        for token in tokens:
            offsets.append(offsets[-1] + len(token) + 1)
        end = offsets.pop()
        if offsets[ord("0")] != digits - start:
            continue
        wanted = struct.pack(f"<{TOKENS}H", *offsets)
        for align in (8, 4):
            index = _aligned(start + end, align)
            if window[index : index + len(wanted)] == wanted:
                return tokens, start, index
    return None


@dataclass(slots=True)
class _Budget:
    """Steps a search may take, so that no crafted table makes it go on for ever."""

    steps: int = 4 * SYMBOLS_MAX

    def spend(self, steps: int) -> bool:
        self.steps -= steps
        return self.steps >= 0


def _names(window: bytes, tokens: list[bytes], token_start: int) -> _Names | None:
    """Find markers before token_table, then names before markers, num_syms before names."""
    budget = _Budget()
    lowest = max(0, token_start - 4 * SYMBOLS_MAX) & ~7
    # markers begin with 0 and go on with anything else: the last aligned word in a run of zeros
    for run in reversed(list(re.finditer(rb"\0{4,}", window[lowest:token_start]))):
        start = lowest + ((run.end() - 4) & ~3)
        markers = _markers(window, start, token_start, budget)
        if markers and start >= lowest + run.start():
            found = _names_before(window, start, markers, tokens, budget)
            if found is not None:
                return found
        if not budget.spend(1):
            return None
    return None


def _markers(window: bytes, start: int, end: int, budget: _Budget) -> list[int]:
    """Read rising offsets from start; [] if this does not look like markers."""
    markers = [0]
    for (value,) in struct.iter_unpack(
        "<I", window[start + 4 : min(end, start + MARKERS_SIZE) & ~3]
    ):
        step = value - markers[-1]
        if not 2 * MARKER_EVERY <= step <= MARKER_EVERY * NAME_MAX:
            break
        markers.append(value)
    if not budget.spend(len(markers)) or len(markers) < SYMBOLS_MIN // MARKER_EVERY:
        return []
    return markers


def _names_before(
    window: bytes, markers_start: int, markers: list[int], tokens: list[bytes], budget: _Budget
) -> _Names | None:
    # What follows markers may look like one more, so the count is taken from num_syms.
    for used in range(len(markers), max(len(markers) - 3, 1), -1):
        if not budget.spend(LAST_NAMES // 4):
            return None
        latest = markers_start - markers[used - 1]
        for position in range(_aligned(max(latest - LAST_NAMES, 0), 4), max(latest, 0), 4):
            (count,) = struct.unpack_from("<I", window, position)
            if (count + MARKER_EVERY - 1) // MARKER_EVERY != used or count < SYMBOLS_MIN:
                continue
            for start in (position + 8, position + 4):
                names = window[start:markers_start]
                strings = _walk(names, count, markers, tokens, budget)
                if strings is not None:
                    return _Names(count, position, strings)
    return None


def _walk(
    names: bytes, count: int, markers: list[int], tokens: list[bytes], budget: _Budget
) -> list[bytes] | None:
    """Expand all names, checking every marker on the way; None if they do not agree."""
    strings: list[bytes] = []
    append, token = strings.append, tokens.__getitem__
    position = 0
    try:
        for number in range(count):
            if not number % MARKER_EVERY and (
                position != markers[number // MARKER_EVERY] or not budget.spend(MARKER_EVERY)
            ):
                return None
            length = names[position]
            position += 1
            if length & 0x80:
                length = (length & 0x7F) | (names[position] << 7)
                position += 1
            append(b"".join(map(token, names[position : position + length])))
            position += length
    except IndexError:
        return None
    return strings if 0 <= len(names) - position < 8 else None


def _addresses(
    window: bytes, window_address: int, names: _Names, after_index: int
) -> list[int] | None:
    """Read the addresses in whichever of the three layouts fits."""
    count = names.count
    base_at = names.start - 8
    base = int.from_bytes(window[base_at : base_at + 8], "little")
    if base_at > 0 and _in_kernel_map(base):
        start = (base_at - 4 * count) & ~7
        if start < 0:
            return None
        return _relative(struct.unpack_from(f"<{count}i", window, start), base)
    for align in (8, 4):
        start = _aligned(after_index, align)
        if start + 4 * count + 16 > len(window):
            return None
        offsets = struct.unpack_from(f"<{count}i", window, start)
        base_at = _aligned(start + 4 * count, 8)
        base = int.from_bytes(window[base_at : base_at + 8], "little")
        if _in_kernel_map(base):
            return _relative(offsets, base)
    return _place_relative(window_address, offsets, start)  # which are aligned to 4


def _relative(offsets: tuple[int, ...], base: int) -> list[int]:
    """Count from base: kernel/kallsyms.c, kallsyms_sym_address."""
    if min(offsets) >= 0:  # without KALLSYMS_ABSOLUTE_PERCPU
        return [(base + offset) & MASK for offset in offsets]
    return [offset if offset >= 0 else (base - 1 - offset) & MASK for offset in offsets]


def _place_relative(window_address: int, offsets: tuple[int, ...], start: int) -> list[int] | None:
    """Count from each offset's own place. Most symbols lie in the kernel image then."""
    first = window_address + start
    addresses = [(first + 4 * i + offset) & MASK for i, offset in enumerate(offsets)]
    inside = sum(map(_in_kernel_map, addresses))
    return addresses if inside > len(addresses) // 2 else None


def _in_kernel_map(address: int) -> bool:
    return KERNEL_MAP <= address <= MASK


def _aligned(position: int, align: int) -> int:
    return (position + align - 1) // align * align
