"""The kernel's log, as ``dmesg`` shows it: the ring buffer that printk has had since 5.10.

A ring of descriptors, each with a number that only grows, and a ring of bytes. A descriptor says
where its text is in the latter, its state what it is worth: only what is committed or finalized
is read. Beside each stands a printk_info.

Source: kernel/printk/printk_ringbuffer.h and .c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mizzen.introspection.kernel import vmcoreinfo
from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import Objects

from .lists import Broken, Limit, Listing, collected

COMMITTED, FINALIZED = 1, 2
STATE_SHIFT = 62
ID_MASK = (1 << STATE_SHIFT) - 1
COUNT_BITS_MAX = 20
"""There is a descriptor for each 32 bytes of text."""
SIZE_BITS_MAX = 25
"""LOG_BUF_LEN_MAX is 32 MiB."""
POSITION_MASK = (1 << 64) - 1
NO_TEXT = 3
"""NO_LPOS: a message without text; FAILED_LPOS, 1, is one that found no room."""
STRUCT_MAX = 1 << 10
"""Bytes of a descriptor, or of a printk_info."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message. sequence: its number since boot. time: seconds after boot.

    level: 0 (emergency) to 7 (debug), None where only vmcoreinfo tells where things are.
    """

    sequence: int
    time: float
    level: int | None
    text: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes and offsets in bytes."""

    desc_ring: int
    text_ring: int
    count_bits: int
    descs: int
    infos: int
    head_id: int
    tail_id: int
    desc_size: int
    state: int
    text_lpos: int
    begin: int
    next: int
    info_size: int
    seq: int
    time: int
    text_len: int
    level: tuple[int, int, int] | None  # offset, lowest bit, bits
    size_bits: int
    data: int


@dataclass(frozen=True, slots=True)
class _Ring:
    """Both rings, read at once. numbers: of the descriptors to read, oldest first."""

    layout: _Layout
    descs: bytes
    infos: bytes
    texts: bytes
    numbers: range


def log(objects: Objects) -> Listing[Record]:
    """Return the messages, oldest first. Raises Unknown, BadAddress."""
    layout, address = _layout(objects)
    return collected(lambda limit: _records(_ring(objects, layout, address), limit))


def _records(ring: _Ring, limit: Limit) -> Iterator[Record]:
    for number in ring.numbers:
        limit.spend()
        record = _record(ring, number)
        if record is not None:
            limit.hold(record.text)
            yield record


def _record(ring: _Ring, number: int) -> Record | None:
    """Return a message, None where there is none (any more): desc_read, copy_data."""
    layout = ring.layout
    index = number % (len(ring.descs) // layout.desc_size)
    desc, info = index * layout.desc_size, index * layout.info_size
    state = _word(ring.descs, desc + layout.state)
    if state & ID_MASK != number & ID_MASK or state >> STATE_SHIFT not in {COMMITTED, FINALIZED}:
        return None
    place = desc + layout.text_lpos
    begin, end = _word(ring.descs, place + layout.begin), _word(ring.descs, place + layout.next)
    text = _text(ring.texts, begin, end, number & ID_MASK)
    if text is None:
        return None
    length = int.from_bytes(ring.infos[info + layout.text_len : info + layout.text_len + 2],
                            "little")  # fmt: skip
    level = None
    if layout.level is not None:
        offset, shift, bits = layout.level
        level = ring.infos[info + offset] >> shift & ((1 << bits) - 1)
    return Record(
        _word(ring.infos, info + layout.seq),
        _word(ring.infos, info + layout.time) / 1e9,
        level,
        text[:length].decode(errors="replace"),
    )


def _text(texts: bytes, begin: int, end: int, number: int) -> bytes | None:
    """Return a block of the text ring, b"" where there is none on purpose; get_data.

    Logical positions only grow, and go on from 0 after 64 bits, which happens soon after boot; the
    ring is a power of two. A block that would not fit at the end of the ring stands at its
    beginning. It begins with its descriptor's number.
    """
    if begin == end and begin & 1:
        return b"" if begin == NO_TEXT else None
    size, length = len(texts), (end - begin) & POSITION_MASK
    if not 0 < length <= size:
        return None
    end = begin + length
    if begin // size == (end - 1) // size:
        block = texts[begin % size : (end - 1) % size + 1]
    else:
        block = texts[: end % size]
    if len(block) < 8 or _word(block, 0) != number:
        return None
    return block[8:]


def _ring(objects: Objects, layout: _Layout, address: int) -> _Ring:
    ring, text = address + layout.desc_ring, address + layout.text_ring
    count_bits = objects.number(ring + layout.count_bits, 4)
    size_bits = objects.number(text + layout.size_bits, 4)
    if not 1 <= count_bits <= COUNT_BITS_MAX or not 1 <= size_bits <= SIZE_BITS_MAX:
        raise Broken("its size makes no sense")
    first, last = (
        objects.number(ring + layout.tail_id) & ID_MASK,
        objects.number(ring + layout.head_id) & ID_MASK,
    )
    count = 1 << count_bits
    held = ((last - first) & ID_MASK) + 1
    return _Ring(
        layout,
        objects.read(objects.number(ring + layout.descs), count * layout.desc_size),
        objects.read(objects.number(ring + layout.infos), count * layout.info_size),
        objects.read(objects.number(text + layout.data), 1 << size_bits),
        range(first, first + min(held, count)),
    )


def _word(data: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", data, offset)[0])


def _layout(objects: Objects) -> tuple[_Layout, int]:
    """Return where things are, and printk_ringbuffer's address."""
    named = objects.kernel.symbols.address("prb")
    values: Mapping[str, str] = {}
    if named is None or objects.types is None:
        values = vmcoreinfo.parse(vmcoreinfo.text(objects))
    if named is None:
        named = _value(values, "SYMBOL(prb)", 16)
    layout = _from_btf(objects) if objects.types is not None else _from_text(values)
    if not _sensible(layout):
        raise Unknown("what it says of its log's descriptors makes no sense")
    return layout, objects.number(named)


def _sensible(layout: _Layout) -> bool:
    """Tell whether every member lies within its structure."""
    lpos = layout.text_lpos
    within = (
        (layout.state, 8, layout.desc_size),
        (lpos + layout.begin, 8, layout.desc_size),
        (lpos + layout.next, 8, layout.desc_size),
        (layout.seq, 8, layout.info_size),
        (layout.time, 8, layout.info_size),
        (layout.text_len, 2, layout.info_size),
        (layout.level[0] if layout.level else 0, 1, layout.info_size),
        (layout.desc_size, 0, STRUCT_MAX),
        (layout.info_size, 0, STRUCT_MAX),
    )
    return all(offset >= 0 and offset + size <= whole for offset, size, whole in within)


def _from_btf(objects: Objects) -> _Layout:
    types = objects.btf

    def offset(struct_: str, member: str) -> int:
        return types.field(types.find(struct_), member).offset

    level = types.field(types.find("printk_info"), "level")
    return _arranged(
        offset, lambda name: types.size(types.find(name)), (level.offset, level.shift, level.bits)
    )


def _from_text(values: Mapping[str, str]) -> _Layout:
    return _arranged(
        lambda struct_, member: _value(values, f"OFFSET({struct_}.{member})", 10),
        lambda name: _value(values, f"SIZE({name})", 10),
        None,
    )


def _arranged(
    offset: Callable[[str, str], int],
    size: Callable[[str], int],
    level: tuple[int, int, int] | None,
) -> _Layout:
    return _Layout(
        desc_ring=offset("printk_ringbuffer", "desc_ring"),
        text_ring=offset("printk_ringbuffer", "text_data_ring"),
        count_bits=offset("prb_desc_ring", "count_bits"),
        descs=offset("prb_desc_ring", "descs"),
        infos=offset("prb_desc_ring", "infos"),
        head_id=offset("prb_desc_ring", "head_id"),
        tail_id=offset("prb_desc_ring", "tail_id"),
        desc_size=size("prb_desc"),
        state=offset("prb_desc", "state_var"),
        text_lpos=offset("prb_desc", "text_blk_lpos"),
        begin=offset("prb_data_blk_lpos", "begin"),
        next=offset("prb_data_blk_lpos", "next"),
        info_size=size("printk_info"),
        seq=offset("printk_info", "seq"),
        time=offset("printk_info", "ts_nsec"),
        text_len=offset("printk_info", "text_len"),
        level=level,
        size_bits=offset("prb_data_ring", "size_bits"),
        data=offset("prb_data_ring", "data"),
    )


def _value(values: Mapping[str, str], key: str, base: int) -> int:
    try:
        return int(values[key], base)
    except (KeyError, ValueError):
        raise Unknown(f"its vmcoreinfo has no {key}") from None
