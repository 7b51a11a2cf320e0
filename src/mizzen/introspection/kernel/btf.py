"""BTF: the kernel's own description of its types.

A header (struct btf_header), then records one behind the other, then the strings they name. A
record is three words (name, info, size or type) and a tail whose length depends on its kind. A
type's id is the number of its record, from 1. Records have no index, so one pass finds where each
begins; everything else is read when it is asked for.

Source: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

MAGIC = b"\x9f\xeb\x01\x00"
"""Magic number, version 1, no flags."""
HEADER = struct.Struct("<HBBIIIII")
SIZE_MAX = 32 << 20
TYPE_MAX = 1 << 24
"""Bytes that one type may have; the largest in a kernel has some hundred KiB."""
DEPTH = 32
"""Typedefs in a row, arrays in arrays."""
MEMBERS_MAX = 1 << 14
"""Members of a structure, and of those in it that have no name, that are searched for one."""
CANDIDATES_MAX = 8
"""A kernel's image holds one blob."""
NAME_MAX = 512
ALIKE_MAX = 16
"""Strings of one text; the kernel's build leaves one of each."""


class Unknown(LookupError):  # noqa: N818 - it is not always an error
    """This kernel does not say what was asked; the text tells what, as a reason."""


class Kind(IntEnum):
    """What a record describes."""

    INT = 1
    POINTER = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FORWARD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNCTION = 12
    PROTOTYPE = 13
    VARIABLE = 14
    SECTION = 15
    FLOAT = 16
    TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_FIXED = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VARIABLE: 1, Kind.TAG: 1}
"""Words behind the first three."""
_EACH = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.PROTOTYPE: 2,
    Kind.SECTION: 3,
    Kind.ENUM64: 3,
}
"""Words for each of the things in it."""
_MODIFIERS = {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}
_SIZED = {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.FLOAT, Kind.ENUM64}
_STRUCTS = {Kind.STRUCT, Kind.UNION}
_ENUMS = {Kind.ENUM, Kind.ENUM64}
_NAMED = _STRUCTS | _ENUMS | {Kind.TYPEDEF}


@dataclass(frozen=True, slots=True)
class Field:
    """Where a member is in a structure.

    offset, size: in bytes. type: its id. bits: of a bit field, how many; 0 for any other member.
    shift: of a bit field, its lowest bit in the little-endian number of size bytes at offset.
    """

    offset: int
    size: int
    type: int
    bits: int = 0
    shift: int = 0


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    type: int
    start: int  # in bits
    bits: int


class Btf:
    """The types in one blob of BTF."""

    def __init__(self, data: bytes) -> None:
        """Find the records. Raises Unknown if this is no BTF, whatever the bytes are."""
        if len(data) < HEADER.size or data[:4] != MAGIC:
            raise Unknown("its BTF is damaged: it does not begin as BTF does")
        _, _, _, header, types, types_size, strings, strings_size = HEADER.unpack_from(data)
        if (
            header + types + types_size > len(data)
            or header + strings + strings_size > len(data)
            or types_size % 4
        ):
            raise Unknown("its BTF is damaged: its parts lie outside of it")
        self._words = array("I", data[header + types : header + types + types_size])
        self._strings = data[header + strings : header + strings + strings_size]
        self._starts = array("I", [0])
        self._ids: dict[tuple[int, int], int] = {}
        self._fields: dict[tuple[int, str], Field] = {}
        self._index()

    def _index(self) -> None:
        """Note where each record begins, and the ids of types that are looked up by name."""
        words, end = self._words, len(self._words)
        fixed = [3 + _FIXED.get(Kind(n), 0) if n in set(Kind) else 0 for n in range(32)]
        each = [_EACH.get(Kind(n), 0) if n in set(Kind) else 0 for n in range(32)]
        named = [n in _NAMED for n in range(32)]
        note, ids, position, number = self._starts.append, self._ids, 0, 1
        while position + 3 <= end:
            info = words[position + 1]
            kind = info >> 24 & 31
            if not fixed[kind]:
                raise Unknown(f"its BTF has types of kind {kind}, which this release cannot read")
            note(position)
            if named[kind]:
                ids.setdefault((words[position], kind), number)
            position += fixed[kind] + (info & 0xFFFF) * each[kind]
            number += 1
        if position != end:
            raise Unknown("its BTF is damaged: its last type is not whole")

    def find(self, names: str) -> int:
        """Return the id of the first struct, union, enum or typedef of names parted by ``|``.

        Raises Unknown if there is none.
        """
        for name in names.split("|"):
            found = self._named(name)
            if found is not None:
                return found
        raise Unknown(f"its BTF has no type {names.replace('|', ' or ')}")

    def _named(self, name: str) -> int | None:
        wanted = b"\0" + name.encode() + b"\0"
        place = -1
        for _ in range(ALIKE_MAX):
            place = self._strings.find(wanted, place + 1)
            if place < 0:
                break
            for kind in _NAMED:
                found = self._ids.get((place + 1, kind))
                if found is not None:
                    return found
        return None

    def has(self, name: str, path: str) -> bool:
        """Tell whether there is a structure with such a member."""
        try:
            self.field(self.find(name), path)
        except Unknown:
            return False
        return True

    def field(self, type_: int, path: str) -> Field:
        """Return a member of a structure, also one in a nameless member of it.

        path: names parted by dots lead into members; of several paths parted by ``|`` the first
        that exists counts.
        Raises Unknown if there is none.
        """
        known = self._fields.get((type_, path))
        if known is None:
            known = self._fields[type_, path] = self._first(type_, path)
        return known

    def _first(self, type_: int, path: str) -> Field:
        for names in path.split("|"):
            field = self._along(type_, names.split("."))
            if field is not None:
                return field
        asked = path.replace("|", " or ")
        raise Unknown(f"its BTF has no member {asked} in {self.name(type_) or 'a structure'}")

    def _along(self, type_: int, names: list[str]) -> Field | None:
        field = Field(0, 0, type_)
        for name in names:
            inner = self._within(field.type, name)
            if inner is None:
                return None
            field = replace(inner, offset=field.offset + inner.offset)
        return field

    def _within(self, type_: int, name: str) -> Field | None:
        """Look for a member in a structure, and in those of its members that have no name."""
        waiting, seen = deque([(type_, 0)]), 0
        while waiting:
            inner, offset = waiting.popleft()
            inner = self._plain(inner)
            if self._kind(inner) not in _STRUCTS:
                continue
            for member in self._members(inner):
                seen += 1
                if member.name == name:
                    return self._as_field(member, offset)
                if seen > MEMBERS_MAX:
                    return None
                if not member.name:
                    waiting.append((member.type, offset + member.start // 8))
        return None

    def _as_field(self, member: _Member, base: int) -> Field:
        first = member.start // 8
        if not member.bits:
            return Field(base + first, self.size(member.type), member.type)
        size = (member.start + member.bits - 1) // 8 - first + 1
        return Field(base + first, size, member.type, member.bits, member.start % 8)

    def _members(self, struct_: int) -> Iterator[_Member]:
        start = self._starts[struct_]
        info = self._words[start + 1]
        for place in range(start + 3, start + 3 + 3 * (info & 0xFFFF), 3):
            name, type_, offset = self._words[place : place + 3]
            bits = offset >> 24 if info >> 31 else 0  # kind_flag
            yield _Member(self._string(name), type_, offset & 0xFFFFFF if info >> 31 else offset,
                          bits)  # fmt: skip

    def size(self, type_: int) -> int:
        """Return a type's size in bytes. Raises Unknown for what has none."""
        count = 1
        for _ in range(DEPTH):
            type_ = self._plain(type_)
            kind, start = self._kind(type_), self._starts[type_]
            if kind is not Kind.ARRAY:
                size = self._words[start + 2] if kind in _SIZED else 8
                if kind not in _SIZED and kind is not Kind.POINTER:
                    break
                if count * size > TYPE_MAX:
                    break
                return count * size
            count *= self._words[start + 5]
            type_ = self._words[start + 3]
        raise Unknown(f"its BTF has no sensible size for {self.name(type_) or 'a type'}")

    def element(self, type_: int) -> int:
        """Return the type of an array's elements, or what a pointer points to. Raises Unknown."""
        type_ = self._plain(type_)
        kind, start = self._kind(type_), self._starts[type_]
        if kind is Kind.ARRAY:
            return self._plain(self._words[start + 3])
        if kind is Kind.POINTER:
            return self._plain(self._words[start + 2])
        raise Unknown(f"its BTF has {self.name(type_) or 'a type'} as no array or pointer")

    def signed(self, type_: int) -> bool:
        """Tell whether a type, or an array's elements, are signed integers."""
        for _ in range(DEPTH):
            type_ = self._plain(type_)
            kind, start = self._kind(type_), self._starts[type_]
            if kind is Kind.INT:
                return bool(self._words[start + 3] >> 24 & 1)
            if kind in _ENUMS:
                return bool(self._words[start + 1] >> 31)
            if kind is not Kind.ARRAY:
                return False
            type_ = self._words[start + 3]
        return False

    def enum(self, name: str) -> dict[str, int]:
        """Return the names in an enum and their values. Raises Unknown if there is no such enum."""
        type_ = self._plain(self.find(name))
        kind, start = self._kind(type_), self._starts[type_]
        if kind not in _ENUMS:
            raise Unknown(f"its BTF has {name} as no enum")
        step, count = _EACH[kind], self._words[start + 1] & 0xFFFF
        return {
            self._string(self._words[place]): self._words[place + 1]
            for place in range(start + 3, start + 3 + step * count, step)
        }

    def name(self, type_: int) -> str:
        """Return a type's own name, "" if it has none."""
        return self._string(self._words[self._starts[type_]]) if self._exists(type_) else ""

    def _plain(self, type_: int) -> int:
        """Follow typedefs and qualifiers. Raises Unknown if they lead nowhere."""
        for _ in range(DEPTH):
            if not self._exists(type_):
                break
            if self._kind(type_) not in _MODIFIERS:
                return type_
            type_ = self._words[self._starts[type_] + 2]
        raise Unknown("its BTF is damaged: a type leads to none")

    def _exists(self, type_: int) -> bool:
        return 0 < type_ < len(self._starts)

    def _kind(self, type_: int) -> Kind:
        return Kind(self._words[self._starts[type_] + 1] >> 24 & 31)

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset, offset + NAME_MAX)
        return self._strings[offset : max(end, offset)].decode("latin-1")


def candidates(image: bytes) -> Iterator[tuple[int, int]]:
    """Yield where BTF seems to lie in a kernel's image, offset and size, largest first.

    For kernels whose symbol table does not name ``__start_BTF``.
    """
    found = []
    for match in re.finditer(re.escape(MAGIC), image):
        if match.start() + HEADER.size > len(image):
            continue
        _, _, _, header, types, types_size, strings, strings_size = HEADER.unpack_from(
            image, match.start()
        )
        # pahole and libbpf lay out exactly this: header, types, strings
        if header != HEADER.size or types or strings != types_size or not types_size:
            continue
        size = header + types_size + strings_size
        if size <= min(SIZE_MAX, len(image) - match.start()):
            found.append((match.start(), size))
    yield from sorted(found, key=lambda place: place[1], reverse=True)[:CANDIDATES_MAX]
