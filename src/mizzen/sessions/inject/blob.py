"""Stage 1 as the page that is written into the guest, and the page it reports in.

Mirrors guest/attach/stage1.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import PAGE
from mizzen.model.errors import Failure

from .hooks import Hook
from .place import Place

MAGIC = struct.pack("<Q", 0x3147545320324D00)
HOOKS_MAX = 10
PARKED_MAX = 4
STUB_SIZE = 16
HEADER = struct.Struct(f"<8s4Q2I2Q{2 * HOOKS_MAX}QQ{PARKED_MAX}Q40s16x")
JUMP = b"\xe9"

DATA = struct.Struct("<9Qq4Q")
ARMED, BEGUN, BUFFER, CLAIMED, FILLED, WITHDRAWN, ACKNOWLEDGED = range(0, 56, 8)
HELLO = 128 + 256
HELLO_MAX = 3072


class Begun(IntEnum):
    """Who has won: the values of ``begun``."""

    NO = 0
    TRYING = 1
    DECLINED = 2
    YES = 3


class State(IntEnum):
    """How far stage 1 is: enum state."""

    NONE = 0
    BUFFER = 1
    MOUNT = 2
    EXEC = 3
    HELLO = 4
    READY = 5
    FAILED = 6
    PARKED = 7


@dataclass(frozen=True, slots=True)
class Report:
    """What stage 1 tells.

    withdrawn: it may free the buffer. error: a negative errno of the step that failed.
    """

    begun: int
    buffer: int
    withdrawn: bool
    state: int
    step: int
    error: int
    hello: bytes


def read_report(page: bytes) -> Report:
    """Read the data page."""
    fields = DATA.unpack_from(page)
    _, begun, buffer, _, _, withdrawn, _, state, step, error, *_, hello_size = fields
    hello = page[HELLO : HELLO + min(hello_size, HELLO_MAX)]
    return Report(begun, buffer, bool(withdrawn), state, step, error, hello)


def read_hooks(page: bytes) -> list[tuple[int, int, int]]:
    """Return (slot, original, offset of the stub) of each hook in a code page; [] if it is none."""
    fields = HEADER.unpack_from(page)
    stubs, count = fields[2], fields[8]
    if fields[0] != MAGIC or count > HOOKS_MAX or stubs > PAGE:
        return []
    words = fields[9 : 9 + 2 * count]
    pairs = zip(words[::2], words[1::2], strict=True)
    return [(slot, original, stubs + STUB_SIZE * i) for i, (slot, original) in enumerate(pairs)]


def stubs(stage1: bytes, place: Place, count: int) -> list[int]:
    """Return the addresses that hooks are to point to."""
    first = place.code + HEADER.unpack_from(stage1)[2]
    return [first + STUB_SIZE * i for i in range(count)]


def build(
    stage1: bytes,
    payload_size: int,
    *,
    kernel: Kernel,
    place: Place,
    hooks: list[Hook],
    parked: list[int],
    token: str,
) -> bytes:
    """Return the code page for one place: header filled in, calls linked.

    payload_size: of stage 2, in bytes. parked: addresses, in the direct map, of places that are to
    be wiped as well. token: at most 39 characters.
    Raises Failure if the kernel lacks a function that stage 1 calls.
    """
    magic, size, first_stub, names, imports, count, *_ = HEADER.unpack_from(stage1)
    assert (magic, size) == (MAGIC, len(stage1))
    page = bytearray(stage1)
    wanted = bytes(page[names:size]).split(b"\0")[:count]
    for number, name in enumerate(wanted):
        at = imports + 8 * number
        distance = kernel.symbol(name.decode()) - (place.code + at + 5)
        if not -(1 << 31) <= distance < 1 << 31:
            raise Failure("cannot attach", f"{name.decode()} is out of a jump's reach")
        page[at : at + 5] = JUMP + distance.to_bytes(4, "little", signed=True)
    pairs = [word for hook in hooks for word in (hook.slot, hook.original)]
    pairs += [0] * (2 * HOOKS_MAX - len(pairs))
    HEADER.pack_into(
        page,
        0,
        *(MAGIC, size, first_stub, names, imports, count, payload_size, place.data, len(hooks)),
        *pairs,
        len(parked),
        *(parked + [0] * (PARKED_MAX - len(parked))),
        token.encode(),
    )
    return bytes(page)
