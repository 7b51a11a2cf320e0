"""Stage 1 and stage 2 as the one piece that is written into the guest.

Mirrors guest/attach/stage1.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from mizzen.introspection.kernel.image import Kernel
from mizzen.model.errors import Failure

from .hooks import HOOKS_MAX, Hook

MAGIC = 0x315A4D
HEADER_OFFSET = 64
HEADER = struct.Struct(f"<8Q {2 * HOOKS_MAX}Q Q 5Q 40s Q")
REGION_OFFSET = HEADER_OFFSET + 7 * 8
"""Where the guest tells the address of its region."""
ARMED_OFFSET = HEADER_OFFSET + HEADER.size - 8
"""Where the host says that every hook is in place."""
JUMP = b"\xe9"

REPORT_OFFSET = 2 * 4096
REPORT = struct.Struct("<7Q 2Q q Q 2Q Q")
ACKNOWLEDGED_OFFSET = REPORT_OFFSET + 10 * 8
HELLO_MAX = 3072


class State(IntEnum):
    """How far stage 1 is: enum state."""

    NONE = 0
    MOUNT = 1
    WRITE = 2
    EXEC = 3
    HELLO = 4
    READY = 5
    FAILED = 6


@dataclass(frozen=True, slots=True)
class Report:
    """What stage 1 tells. error: a negative errno of the step that failed."""

    state: int
    step: int
    error: int
    hello: bytes


def read_report(data: bytes) -> Report:
    """Read a report out of the region's last page."""
    fields = REPORT.unpack_from(data)
    state, step, error, hello_size = fields[7], fields[8], fields[9], fields[13]
    hello = data[REPORT.size : REPORT.size + min(hello_size, HELLO_MAX)]
    return Report(state, step, error, hello)


def stale(text: bytes, address: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Yield the blobs that lie in the kernel's text and have not begun.

    Each as its address, its size, and (slot, original) of its hooks.
    """
    magic = MAGIC.to_bytes(8, "little")
    place = text.find(magic)
    while place >= 0:
        entry = address + place - HEADER_OFFSET
        if not entry % 4096 and len(text) - place >= HEADER.size:
            fields = HEADER.unpack_from(text, place)
            size, region, pairs = fields[1], fields[7], fields[8 : 8 + 2 * HOOKS_MAX]
            count = fields[8 + 2 * HOOKS_MAX]
            if not region and count <= HOOKS_MAX and entry + size <= address + len(text):
                words = pairs[: 2 * count]
                yield entry, size, list(zip(words[::2], words[1::2], strict=True))
        place = text.find(magic, place + 1)


def total_size(stage1: bytes, stage2: bytes) -> int:
    """Return the size in bytes of what ``build`` returns."""
    return len(stage1) + len(stage2)


def build(
    stage1: bytes, stage2: bytes, *, kernel: Kernel, entry: int, hooks: list[Hook], token: str
) -> bytes:
    """Return the blob for one place: header filled in, calls linked, stage 2 appended.

    entry: the virtual address it will lie at. token: at most 39 characters.
    Raises Failure if the kernel lacks a function that stage 1 calls.
    """
    magic, _, payload, _, names, imports, count, *_ = HEADER.unpack_from(stage1, HEADER_OFFSET)
    assert magic == MAGIC
    assert payload == len(stage1)
    blob = bytearray(stage1 + stage2)
    wanted = bytes(blob[names:payload]).split(b"\0")[:count]
    for number, name in enumerate(wanted):
        at = imports + 8 * number
        target = kernel.symbol(name.decode())
        distance = target - (entry + at + 5)
        if not -(1 << 31) <= distance < 1 << 31:
            raise Failure("cannot attach", f"{name.decode()} is out of a jump's reach")
        blob[at : at + 5] = JUMP + distance.to_bytes(4, "little", signed=True)
    pairs = [word for hook in hooks for word in (hook.slot, hook.original)]
    pairs += [0] * (2 * HOOKS_MAX - len(pairs))
    HEADER.pack_into(
        blob,
        HEADER_OFFSET,
        *(MAGIC, len(blob), payload, len(stage2), names, imports, count, 0),
        *pairs,
        len(hooks),
        *(
            kernel.symbol(name)
            for name in ("text_mutex", "mutex_lock", "mutex_unlock", "text_poke", "vfree")
        ),
        token.encode(),
        0,
    )
    return bytes(blob)
