"""The kernel's symbol table as builds of several releases lay it out."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LAYOUTS = ("5.10", "6.1.y", "6.12", "7.x")
BASE = 0xFFFF_FFFF_8000_0000


@dataclass
class Table:
    window: bytes
    address: int
    digits: int
    expected: dict[str, int]


def tokens_for() -> list[bytes]:
    """Letters, digits and a few signs stand for themselves; the rest are whole words."""
    own = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_.$"
    words = iter(
        [
            b"%c%c%s" % (a, b, w)
            for w in (b"_", b"lock", b"init")
            for a in b"xyzpq"
            for b in range(97, 117)
        ]
    )
    return [bytes((code,)) if code in own else next(words) for code in range(256)]


def encoder(tokens: list[bytes]) -> Callable[[bytes], bytes]:
    """Longest token first, as good as the kernel's own choice for reading."""
    pattern = re.compile(b"|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))
    codes = {token: code for code, token in enumerate(tokens)}

    def encode(name: bytes) -> bytes:
        body = bytes(codes[token] for token in pattern.findall(name))
        if len(body) < 128:
            return bytes((len(body),)) + body
        return bytes((0x80 | len(body) & 0x7F, len(body) >> 7)) + body

    return encode


class Writer:
    def __init__(self, before: bytes, align: int) -> None:
        self.data = bytearray(before)
        self.align = align

    def put(self, data: bytes) -> int:
        self.data += bytes(-len(self.data) % self.align)
        start = len(self.data)
        self.data += data
        return start


def lay_out(
    layout: str, symbols: Mapping[str, int], before: bytes, address: int, last: bytes = b"qtinit"
) -> Table:
    """Return a window at an address: bytes of something else, then the tables of these symbols.

    last: the last token.
    """
    tokens = [*tokens_for()[:-1], last]
    count = len(symbols)
    out = Writer(before, 4 if layout == "7.x" else 8)
    encode = encoder(tokens)
    encoded = [encode(b"t" + name.encode()) for name in symbols]
    starts = [0]
    for item in encoded:
        starts.append(starts[-1] + len(item))
    markers = struct.pack(f"<{(count + 255) // 256}I", *starts[:-1:256])
    relative = struct.pack(f"<{count}i", *(BASE - 1 - place for place in symbols.values()))
    base = struct.pack("<Q", BASE)
    if layout in {"5.10", "6.1.y"}:
        out.put(relative)
        out.put(base)
    out.put(struct.pack("<I", count))
    out.put(b"".join(encoded))
    out.put(markers)
    if layout == "6.1.y":
        out.put(b"".join((number * 7919 % count).to_bytes(3, "big") for number in range(count)))
    start = out.put(b"".join(token + b"\0" for token in tokens))
    digits = start + sum(len(token) + 1 for token in tokens[:48])
    offsets = [sum(len(token) + 1 for token in tokens[:i]) for i in range(256)]
    out.put(struct.pack("<256H", *offsets))
    if layout == "6.12":
        out.put(relative)
        out.align = 8
        out.put(base)
    if layout == "7.x":
        place = address + out.put(b"")
        distances = (to - place - 4 * i for i, to in enumerate(symbols.values()))
        out.put(struct.pack(f"<{count}i", *distances))
    out.data += bytes(64)
    return Table(bytes(out.data), address, digits, dict(symbols))
