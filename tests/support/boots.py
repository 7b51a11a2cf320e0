"""Booting again: QEMU's TCG spoils some boots, before anybody has touched the guest.

QEMU 7.2 with 8 virtual CPUs was seen to let a kernel die of an int3 that it wrote itself, in
sched_clock_cpu while it patched its code, and another hang without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol, TypeVar

from console import Console

BOOTS = 3
BOOT_SECONDS = 90


class Booting(Protocol):
    """A guest whose console says "ready" once a shell waits there."""

    console: Console


Guest = TypeVar("Guest", bound=Booting)


@contextmanager
def ready(
    boot: Callable[[], AbstractContextManager[Guest]], seconds: float = BOOT_SECONDS
) -> Iterator[Guest]:
    """Boot a guest up to "ready", at most BOOTS times; nothing is tried again from then on."""
    for number in range(1, BOOTS + 1):
        with ExitStack() as stack:
            guest = stack.enter_context(boot())
            try:
                guest.console.wait_for("ready", seconds)
            except AssertionError as error:
                if number == BOOTS:
                    raise
                print(f"boot {number} of {BOOTS} failed: {error}")  # pytest shows it on failure
                continue
            yield guest
            return
