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

import struct
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

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

TYPES = tuple(bytes((letter,)) for letter in b"TtDdBbRrWVA")
"""The letters that nm gives to the types of symbols, functions first."""
RUN_STEP = 64 << 10
RUN_COST = 16
"""Steps that looking at one run of zeros counts for."""
PLACES_MAX = 256
"""Places that look like one name and are tried."""
EXPANDED_MAX = 32 << 20
"""Bytes of all names; a real kernel's have some 5 MB."""

SEPARATOR = b"\0"
"""What no name contains."""

DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")


class Symbols:
    """Symbols by name. Addresses are virtual, as the running kernel uses them.

    Of several symbols with one name the first counts.
    """

    def __init__(self, by_name: dict[str, int]) -> None:
        """Hold symbols that are all known."""
        self._by_name = by_name

    @property
    def by_name(self) -> Mapping[str, int]:
        """All of them, which may take a moment to read."""
        return self._by_name

    def address(self, names: str) -> int | None:
        """Return the address of one of several names, parted by ``|``: the first that exists."""
        for name in names.split("|"):
            if name in self.by_name:
                return self.by_name[name]
        return None


@dataclass(frozen=True, slots=True)
class _Names:
    """The part of the tables that is alike in all layouts.

    count: of symbols. start: where num_syms is in the window. data: names, all of them.
    """

    count: int
    start: int
    data: bytes = field(repr=False)
    markers: list[int] = field(repr=False)
    tokens: list[bytes] = field(repr=False)

    def expanded(self) -> list[bytes]:
        """Return type letter and name of each symbol, as far as they can be read."""
        strings: list[bytes] = []
        append, token, data = strings.append, self.tokens.__getitem__, self.data
        position, size = 0, 0
        for _ in range(self.count):
            first, end = _extent(data, position)
            if end > len(data) or size > EXPANDED_MAX:
                break
            string = b"".join(map(token, data[first:end]))
            append(string)
            size += len(string)
            position = end
        return strings

    def find(self, name: bytes) -> int | None:
        """Return the number of a symbol, given with its type letter; None if it is not found."""
        code = _compress(name, self.tokens)
        if code is None:
            return None
        length = len(code)
        prefix = bytes((length,)) if length < 128 else bytes((length & 0x7F | 0x80, length >> 7))
        place = -1
        for _ in range(PLACES_MAX):
            place = self.data.find(prefix + code, place + 1)
            number = self._number(place) if place >= 0 else None
            if place < 0 or number is not None:
                return number
        return None

    def _number(self, place: int) -> int | None:
        """Return the number of the symbol that begins at a place, None if none does."""
        block = bisect_right(self.markers, place) - 1
        position = self.markers[block]
        first = block * MARKER_EVERY
        for number in range(first, min(self.count, first + MARKER_EVERY)):
            if position >= place:
                return number if position == place else None
            position = _extent(self.data, position)[1]
        return None


class _Table(Symbols):
    """Symbols as they lie in RAM: looked up there, expanded only when all are asked for."""

    def __init__(self, names: _Names, addresses: _Addresses) -> None:
        """Hold the tables, which have been found to fit together."""
        self._names = names
        self._addresses = addresses

    @cached_property
    def by_name(self) -> dict[str, int]:
        """See ``Symbols``."""
        strings = [string[1:] for string in self._names.expanded()]
        text = SEPARATOR.join(strings).decode("latin-1").split(SEPARATOR.decode())
        addresses = [self._addresses.of(number) for number in range(len(strings))]
        if len(text) != len(addresses):
            return {}  # a name with a NUL in it
        return dict(zip(reversed(text), reversed(addresses), strict=True))

    def address(self, names: str) -> int | None:
        """See ``Symbols``."""
        for name in names.split("|"):
            for letter in TYPES:
                number = self._names.find(letter + name.encode())
                if number is not None:
                    return self._addresses.of(number)
        return super().address(names)


def _extent(data: bytes, position: int) -> tuple[int, int]:
    """Return where the tokens of the symbol at a position begin and end."""
    length = data[position] if position < len(data) else 0
    if length & 0x80 and position + 1 < len(data):
        length = (length & 0x7F) | (data[position + 1] << 7)
        position += 1
    return position + 1, position + 1 + length


def _compress(name: bytes, tokens: list[bytes]) -> bytes | None:
    """Encode a name as scripts/kallsyms.c, compress_symbols, did: from the last token to the first.

    The kernel does not keep which pair a token was made of; that it spells the same is taken for
    the same, and has not been seen to differ. None if a character is no token.
    """
    parts = [name[i : i + 1] for i in range(len(name))]
    for token in reversed(tokens):
        if len(token) < 2 or token not in name:
            continue
        joined: list[bytes] = []
        for part in parts:
            if joined and joined[-1] + part == token:
                joined[-1] = token
            else:
                joined.append(part)
        parts = joined
    numbers = {token: number for number, token in enumerate(tokens)}
    if not all(part in numbers for part in parts):
        return None
    return bytes(numbers[part] for part in parts)


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
    return _Table(names, addresses) if addresses else None


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

    steps: int = SYMBOLS_MAX

    def spend(self, steps: int) -> bool:
        self.steps -= steps
        return self.steps >= 0


def _names(window: bytes, tokens: list[bytes], token_start: int) -> _Names | None:
    """Find markers before token_table, then names before markers, num_syms before names."""
    budget = _Budget()
    lowest = max(0, token_start - 4 * SYMBOLS_MAX) & ~7
    # markers begin with 0 and go on with anything else: the last aligned word in a run of zeros
    zeros = window.rfind(bytes(4), lowest, token_start)
    while zeros >= 0 and budget.spend(RUN_COST):
        start = zeros & ~3
        markers = _markers(window, start, token_start, budget)
        if markers and not any(window[start : start + 4]):
            found = _names_before(window, start, markers, tokens, budget)
            if found is not None:
                return found
        run = window[max(lowest, zeros - RUN_STEP) : zeros]
        zeros = window.rfind(bytes(4), lowest, zeros - len(run) + len(run.rstrip(b"\0")))
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
                if not budget.spend(2 * MARKER_EVERY):
                    return None
                if _behind(window, start, MARKER_EVERY) != start + markers[1]:
                    continue
                if _fits(window, start + markers[used - 1], markers_start, count):
                    data = window[start:markers_start]
                    return _Names(count, position, data, markers[:used], tokens)
    return None


def _fits(window: bytes, position: int, end: int, count: int) -> bool:
    """Tell whether the names behind the last marker fill the rest, up to the padding."""
    return 0 <= end - _behind(window, position, (count - 1) % MARKER_EVERY + 1) < 8


def _behind(window: bytes, position: int, names: int) -> int:
    """Return where so many names end that begin at a position."""
    for _ in range(names):
        position = _extent(window, position)[1]
    return position


@dataclass(frozen=True, slots=True)
class _Addresses:
    """One number for each symbol, and how to make an address of it.

    base: what they count from; None if each counts from its own place, the first from ``place``.
    """

    offsets: tuple[int, ...] = field(repr=False)
    base: int | None
    place: int = 0
    percpu: bool = False

    def of(self, number: int) -> int:
        """Return a symbol's address: kernel/kallsyms.c, kallsyms_sym_address."""
        offset = self.offsets[number]
        if self.base is None:
            return (self.place + 4 * number + offset) & MASK
        if not self.percpu:
            return (self.base + offset) & MASK
        return offset if offset >= 0 else (self.base - 1 - offset) & MASK


def _addresses(
    window: bytes, window_address: int, names: _Names, after_index: int
) -> _Addresses | None:
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


def _relative(offsets: tuple[int, ...], base: int) -> _Addresses:
    """Count from base. There are negative offsets with KALLSYMS_ABSOLUTE_PERCPU only."""
    return _Addresses(offsets, base, percpu=min(offsets) < 0)


def _place_relative(window_address: int, offsets: tuple[int, ...], start: int) -> _Addresses | None:
    """Count from each offset's own place. Most symbols lie in the kernel image then."""
    addresses = _Addresses(offsets, None, window_address + start)
    probes = range(0, len(offsets), MARKER_EVERY)
    inside = sum(_in_kernel_map(addresses.of(number)) for number in probes)
    return addresses if inside > len(probes) // 2 else None


def _in_kernel_map(address: int) -> bool:
    return KERNEL_MAP <= address <= MASK


def _aligned(position: int, align: int) -> int:
    return (position + align - 1) // align * align
