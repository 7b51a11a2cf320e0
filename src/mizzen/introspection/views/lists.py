"""Following the guest's lists, which may change meanwhile, be broken, or never end."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from mizzen.introspection.kernel.objects import Objects
from mizzen.introspection.memory.physical import BadAddress

NODES_MAX = 1 << 20
SECONDS = 10.0
"""For one view."""
TEXT_MAX = 256 << 20
"""Characters of all that one view holds: a guest can tell the same bytes over and over."""
OVERHEAD = 64
"""Bytes that a text takes besides its characters."""
ATTEMPTS = 3
REMOVED = 0xDEAD_0000_0000_0122
"""What list_del_rcu leaves as prev: LIST_POISON2, include/linux/poison.h."""

T = TypeVar("T")


class Broken(Exception):  # noqa: N818 - it is the list that is broken
    """A list breaks off; the text says how."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What was found, in the guest's order.

    incomplete: why there may be more, "" if this is all.
    """

    items: tuple[T, ...]
    incomplete: str = ""

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(slots=True)
class Limit:
    """How far to go. end: when to stop, by time.monotonic. text: characters that may be held."""

    end: float
    steps: int = NODES_MAX
    text: int = TEXT_MAX

    def hold(self, *texts: str) -> None:
        """Count texts that an entry holds. Raises Broken if that is too much."""
        self.text -= sum(map(len, texts)) + OVERHEAD * len(texts)
        if self.text < 0:
            raise Broken(f"it says more than {TEXT_MAX >> 20} MiB")

    def spend(self) -> None:
        """Take one step. Raises Broken if there are none left."""
        self.steps -= 1
        if self.steps < 0:
            raise Broken(f"it goes on after {NODES_MAX} entries")
        if time.monotonic() > self.end:
            raise Broken(f"it was not read to its end within {SECONDS:.0f} s")


def collected(found: Callable[[Limit], Iterator[T]]) -> Listing[T]:
    """Collect what an iterator yields until it ends, breaks off or takes too long.

    A running guest changes its lists while they are read: one that breaks off is read again, and
    the longest result counts.
    found: called with the limit for each attempt.
    """
    best: Listing[T] = Listing((), "nothing could be read")
    end = time.monotonic() + SECONDS
    for _ in range(ATTEMPTS):
        items: list[T] = []
        why = ""
        try:
            for item in found(Limit(end)):
                items.append(item)  # noqa: PERF402 - what came before it breaks off counts
        except (Broken, BadAddress) as error:
            why = f"the list breaks off: {error}"
        if not why or len(items) >= len(best.items):
            best = Listing(tuple(items), why)
        if not why or time.monotonic() > end:
            break
    return best


def nodes(objects: Objects, head: int, limit: Limit) -> Iterator[int]:
    """Yield the addresses of the entries of a struct list_head. Raises Broken, BadAddress."""
    previous, node = head, objects.number(head)
    seen = {head}
    while node != head:
        limit.spend()
        following, back = struct.unpack("<QQ", objects.read(node, 16))
        # An entry that is being removed still leads on; what else has no way back is no entry.
        if node in seen or back not in {previous, REMOVED}:
            raise Broken(f"the entry at {node:#x} does not belong there")
        seen.add(node)
        yield node
        previous, node = node, following


def tree(objects: Objects, root: int, limit: Limit) -> Iterator[int]:
    """Yield the addresses of the entries of a struct rb_root, in order. Raises Broken, BadAddress.

    struct rb_node: parent and colour, right, left.
    """
    above: list[tuple[int, int]] = []  # an entry, and what is on its right
    seen: set[int] = set()
    node = objects.number(root)
    while node or above:
        while node:
            limit.spend()
            if node in seen:
                raise Broken(f"the entry at {node:#x} comes twice")
            seen.add(node)
            _, right, left = struct.unpack("<QQQ", objects.read(node, 24))
            above.append((node, right))
            node = left
        entry, node = above.pop()
        yield entry
