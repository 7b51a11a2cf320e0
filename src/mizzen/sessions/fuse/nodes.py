"""The numbers that a guest's kernel knows files by, until it forgets them."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from .protocol import Refused
from .tree import Node

ROOT = 1
NODES_MAX = 1 << 18
"""Files that a guest may know at once, each for 0.7 KiB of ours. More are refused with ENFILE."""


@dataclass(slots=True)
class _Known:
    node: Node
    parent: int
    lookups: int = 0


class Nodes:
    """Files by number. A number is never given twice."""

    def __init__(self, root: Node) -> None:
        self._known = {ROOT: _Known(root, 0)}
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._next = ROOT + 1

    def __getitem__(self, number: int) -> Node:
        """Return a file. Raises Refused if there is none of that number."""
        known = self._known.get(number)
        if known is None:
            raise Refused(errno.ESTALE)
        return known.node

    def __len__(self) -> int:
        return len(self._known)

    def known(self, parent: int, name: bytes) -> int | None:
        """Return the number of a file in a folder, None if it has none yet."""
        return self._numbers.get((parent, name))

    def add(self, parent: int, node: Node) -> int:
        """Give a file in a folder a number. Raises Refused if there are too many."""
        if len(self._known) >= NODES_MAX:
            raise Refused(errno.ENFILE)
        number = self._next
        self._next += 1
        self._known[number] = _Known(node, parent)
        self._numbers[parent, node.name] = number
        return number

    def count(self, number: int) -> None:
        """Note that the guest was told a number once more."""
        self._known[number].lookups += 1

    def forget(self, number: int, lookups: int) -> None:
        """Take back so many tellings; a number that the guest has none left of is gone."""
        known = self._known.get(number)
        if known is None or number == ROOT:
            return
        known.lookups -= lookups
        if known.lookups <= 0:
            del self._known[number]
            del self._numbers[known.parent, known.node.name]
