"""BTF built by hand."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

INT, POINTER, ARRAY, STRUCT, UNION, ENUM, TYPEDEF, CONST = 1, 2, 3, 4, 5, 6, 8, 10
BIT_FIELDS = 1 << 31


@dataclass
class Types:
    """Collects types; each method returns a type's id."""

    words: list[int] = field(default_factory=list)
    strings: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    count: int = 0

    def text(self, name: str) -> int:
        if not name:
            return 0
        wanted = b"\0" + name.encode() + b"\0"
        if wanted not in self.strings:
            self.strings += wanted[1:]
        return self.strings.index(wanted) + 1

    def add(self, kind: int, name: str, third: int, *tail: int, count: int = 0, flag: int = 0):
        self.words += [self.text(name), kind << 24 | count | flag, third, *tail]
        self.count += 1
        return self.count

    def integer(self, name: str, size: int, *, signed: bool = False) -> int:
        return self.add(INT, name, size, int(signed) << 24 | size * 8)

    def pointer(self, to: int) -> int:
        return self.add(POINTER, "", to)

    def typedef(self, name: str, to: int) -> int:
        return self.add(TYPEDEF, name, to)

    def array(self, of: int, length: int) -> int:
        return self.add(ARRAY, "", 0, of, 0, length)

    def struct(self, name: str, size: int, *members: tuple, kind: int = STRUCT) -> int:
        """members: name, type, offset in bytes; or name, type, offset in bits, bits."""
        bit_fields = any(len(member) > 3 for member in members)
        tail = []
        for label, type_, offset, *bits in members:
            if not bits:
                offset *= 8  # noqa: PLW2901
            tail += [self.text(label), type_, offset | (bits[0] << 24 if bits else 0)]
        flag = BIT_FIELDS if bit_fields else 0
        return self.add(kind, name, size, *tail, count=len(members), flag=flag)

    def enum(self, name: str, **values: int) -> int:
        tail = [word for label, value in values.items() for word in (self.text(label), value)]
        return self.add(ENUM, name, 4, *tail, count=len(values))

    def blob(self) -> bytes:
        types = struct.pack(f"<{len(self.words)}I", *self.words)
        head = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings)
        )
        return head + types + bytes(self.strings)
