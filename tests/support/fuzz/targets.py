"""A target for each parser of what a guest wrote: any bytes, and what must hold whatever they are.

A target returns, or raises what shows a fault. Bytes are mostly changes to something whole, so
that the greater part of it still makes sense; see ``memory.patch``.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache
from unittest import mock

from symbol_table import LAYOUTS, Table, lay_out

from mizzen.introspection.inspection import Inspection
from mizzen.introspection.kernel import btf, image, kallsyms, layout, vmcoreinfo
from mizzen.introspection.kernel.btf import Btf, Unknown
from mizzen.introspection.memory.physical import BadAddress, Range
from mizzen.introspection.paging.tables import PageTables, runs
from mizzen.introspection.views import lists
from mizzen.model.errors import Failure
from mizzen.sessions.inject import blob, entry, hooks, place

from . import guest, network, session
from .memory import Checked, Mapping, patch

SYMBOLS = {f"symbol_{n}": kallsyms.KERNEL_MAP + (48 << 20) + 16 * n for n in range(1030)}
VIEWS = ("system", "memory", "processes", "log", "mounts", "sockets", "vmcoreinfo")
SECONDS = 1.0


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Let searches and views end after a second."""
    with (
        mock.patch.object(image, "SEARCH_SECONDS", SECONDS),
        mock.patch.object(lists, "SECONDS", SECONDS),
    ):
        yield


@cache
def table(number: int) -> Table:
    """Return a symbol table in one of all layouts, with a MiB before it; or with a long token."""
    layout, last = LAYOUTS[number & 3], b"end" * 700 if number & 4 else b"end"
    return lay_out(layout, SYMBOLS, b"\1" * (1 << 20), kallsyms.KERNEL_MAP + (32 << 20), last)


def symbols(data: bytes) -> None:
    """Read a symbol table. The first byte chooses its layout."""
    table_ = table(data[0] & 7 if data else 0)
    window = bytearray(table_.window)
    patch(window, data[1:], Range(1 << 20, len(window) - (1 << 20)))
    digits = window.find(kallsyms.DIGITS)
    found = kallsyms.parse(bytes(window), table_.address, max(digits, 0))
    if found is None:
        return
    asked = found.address("symbol_7|symbol_1000|nothing"), found.address("t")
    assert all(a is None or 0 <= a <= kallsyms.MASK for a in asked)
    assert all(0 <= address <= kallsyms.MASK for address in found.by_name.values())


def types(data: bytes) -> None:
    """Read BTF as it is, and look up everything in it."""
    with contextlib.suppress(Unknown):
        found = Btf(data)
        for name in ("task_struct", "node", "thing", "flags", "kind", "a|b"):
            with contextlib.suppress(Unknown):
                type_ = found.find(name)
                for path in ("tasks", "next", "whole", "node.low", "name|b", "nothing"):
                    with contextlib.suppress(Unknown):
                        member = found.field(type_, path)
                        assert 0 <= member.size <= btf.TYPE_MAX
                        found.element(member.type)
                        found.signed(member.type)
            with contextlib.suppress(Unknown):
                found.enum(name)
    for offset, size in btf.candidates(data):
        assert 0 <= offset <= offset + size <= len(data)


def firmware(data: bytes) -> None:
    """Read a memory map, and put RAM together by it."""
    entries = layout.firmware_map(data, Range(16 << 20, 32 << 20))
    sources = [Mapping(bytearray(size)) for size in (1 << 20, 3 << 20, 2 << 20)]
    for delta in (0, 1 << 20, -(2 << 20), layout.HOLE_END):
        for part in layout.parts(layout.Home(sources[1], delta), sources, entries) or ():
            assert 0 <= part.offset <= part.offset + part.range.size <= part.source.size


def tables(data: bytes) -> None:
    """Walk page tables that fill a small RAM."""
    ram = Checked(bytes(16 * 4096))
    patch(ram.data, data[1:])
    walked = PageTables(ram, 4096 * (data[0] & 15) if data else 0, 5 if data[:1] > b"\x7f" else 4)
    for ask in (
        walked.first,
        lambda: walked.look_up(0xFFFF_8880_0000_1000),
        lambda: walked.read(0xFFFF_FFFF_8000_0FFC, 8),
        lambda: list(itertools.islice(runs(ram, walked.root, 21, 0), 2000)),
    ):
        with contextlib.suppress(BadAddress):
            ask()


def search(data: bytes) -> None:
    """Find a kernel in RAM, and what attach looks for in it before it writes."""
    ram = bytearray(guest.built())
    patch(ram, data, guest.hot(), kallsyms.KERNEL_MAP)
    with hurried(), contextlib.suppress(Failure):
        sources = [Mapping(ram)]
        image.release_of_any(sources)
        kernel = image.find(sources)
        if kernel is not None:
            _look_for_a_way_in(kernel)
            sources[0].writable = True
            entry._recover(kernel)


def _look_for_a_way_in(kernel: image.Kernel) -> None:
    assert kernel.release.isprintable()
    with contextlib.suppress(Failure, BadAddress):
        assert all(kernel.is_code(hook.original) for hook in hooks.find(kernel))
    with contextlib.suppress(Failure, BadAddress):
        place.choose(kernel)
    for physical in place.in_use(kernel, blob.MAGIC):
        assert physical in place.PLACES


@cache
def found() -> tuple[Mapping, image.Kernel]:
    """Return a guest's RAM, and the kernel in it."""
    ram = Mapping(bytearray(guest.built()))
    kernel = image.find([ram])
    assert kernel is not None
    return ram, kernel


def views(data: bytes) -> None:
    """Tell what can be told of a guest whose kernel was found before the damage was done."""
    ram, kernel = found()
    ram.data[:] = guest.built()
    with hurried():
        patch(ram.data, data, guest.hot(), kallsyms.KERNEL_MAP)
        told = Inspection(kernel, "the guest")
        for name in VIEWS:
            with contextlib.suppress(Failure):
                _sensible(getattr(told, name)())
        vmcoreinfo.composed(kernel)


def _sensible(view: object) -> None:
    for item in view if isinstance(view, lists.Listing) else (view,):
        for value in getattr(item, "__dataclass_fields__", ()):
            number = getattr(item, value)
            assert not isinstance(number, float) or math.isfinite(number)
    assert len(repr(view)) < 64 << 20


def note(data: bytes) -> None:
    """Find vmcoreinfo by searching RAM."""
    ram, kernel = found()
    ram.data[:] = guest.built()
    with hurried(), contextlib.suppress(Failure):
        where = kernel.symbol("vmcoreinfo_size")
        at = kernel.physical(where)
        ram.data[at : at + 8] = bytes(8)
        patch(ram.data, data, guest.hot(), kallsyms.KERNEL_MAP)
        vmcoreinfo.parse(Inspection(kernel, "the guest").vmcoreinfo())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "archive": session.archive,
    "channel": session.channel,
    "dump": session.dump,
    "firmware": firmware,
    "fuse": session.fuse,
    "network": network.requests,
    "note": note,
    "reports": session.reports,
    "search": search,
    "symbols": symbols,
    "tables": tables,
    "types": types,
    "views": views,
}
