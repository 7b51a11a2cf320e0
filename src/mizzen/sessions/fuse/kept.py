"""What is kept open, or in mind, for files that may be asked for again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """A bounded number of values, the least recently used of them dropped for a new one."""

    def __init__(self, most: int, drop: Callable[[Value], object]) -> None:
        """Keep so many values. drop: told each one that is kept no longer."""
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._most = most
        self._drop = drop

    def get(self, key: Key) -> Value | None:
        """Return the value of a key if it is still there."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> Value:
        """Keep a key's value, and return it."""
        self._values[key] = value
        if len(self._values) > self._most:
            self._drop(self._values.popitem(last=False)[1])
        return value

    def clear(self) -> None:
        """Drop all."""
        while self._values:
            self._drop(self._values.popitem()[1])
