"""Functions of the guest's kernel that are called through a pointer, and can be exchanged.

softirq_vec (kernel/softirq.c) has one for each kind of softirq. All kernels have it. Timers alone
call it many times a second on a CPU that works, and every few seconds in a guest that idles. What
it calls runs inside RCU's read side: so it can be told when nobody is in there any more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import read_word, write_word
from mizzen.model.errors import Failure

KNOWN = "run_timer_softirq"
KNOWN_INDEX = 1
"""TIMER_SOFTIRQ, include/linux/interrupt.h."""
PREAMBLE = 16
MOV_EAX = 0xB8
ENDBR64 = bytes.fromhex("f30f1efa")
COUNT = 10
"""NR_SOFTIRQS."""
ALWAYS = (0, KNOWN_INDEX, 6, 8)
"""HI, TIMER, TASKLET and HRTIMER_SOFTIRQ: every kernel sets their actions, each its own."""
PLACES_MAX = 4096
"""Places that name the known function and are looked at."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A function pointer. slot: its virtual address, physical: where that lies in RAM."""

    slot: int
    physical: int
    original: int


def find(kernel: Kernel) -> list[Hook]:
    """Find the softirqs' actions. Raises Failure if they are not there."""
    function = kernel.symbol(KNOWN)
    for address, data in _likely(kernel):
        slots = vector(data, function, kernel.is_code)
        if not slots:
            continue
        before = [
            kernel.memory.read(kernel.physical(action) - PREAMBLE, PREAMBLE) for _, action in slots
        ]
        if calls_are_checked(before):
            raise Failure(
                "cannot attach",
                "the guest's kernel checks indirect calls (CONFIG_CFI_CLANG), which our code would"
                " not pass",
                "use a kernel without it",
            )
        return [
            Hook(address + at, kernel.physical(address + at), original) for at, original in slots
        ]
    raise Failure("cannot attach", "the guest's kernel has no table of softirqs that can be found")


def _likely(kernel: Kernel) -> Iterator[tuple[int, bytes]]:
    """Yield what may have the table in it: its own place if that has a name, then all data."""
    address = kernel.symbols.address("softirq_vec")
    if address is not None:
        yield address, kernel.memory.read(kernel.physical(address), 8 * COUNT)
    yield from kernel.data()


def calls_are_checked(before: list[bytes]) -> bool:
    """Tell from what stands before functions whether callers compare a hash of their type there.

    before: PREAMBLE bytes before each function. kCFI puts ``mov $hash, %eax`` there, directly or
    before padding; FineIBT ``endbr64`` and a comparison (arch/x86/kernel/alternative.c).
    """
    return (
        all(code[PREAMBLE - 5] == MOV_EAX for code in before)
        or all(code[0] == MOV_EAX for code in before)
        or all(code.startswith(ENDBR64) for code in before)
    )


def vector(data: bytes, function: int, is_code: Callable[[int], bool]) -> list[tuple[int, int]]:
    """Return (position, function) of a softirq_vec in data, of those actions that are set.

    A stack may hold the function and words around it that are code or nothing, but not so many.
    """
    needle = function.to_bytes(8, "little")
    place = -1
    for _ in range(PLACES_MAX):
        place = data.find(needle, place + 1)
        if place < 0:
            break
        start = place - 8 * KNOWN_INDEX
        words = data[max(start, 0) : start + 8 * COUNT]
        if not place % 8 and len(words) == 8 * COUNT:
            actions = struct.unpack(f"<{COUNT}Q", words)
            there = [action for action in actions if action]
            if (
                all(actions[i] for i in ALWAYS)
                and len(set(there)) == len(there)
                and all(map(is_code, there))
            ):
                return [(start + 8 * i, action) for i, action in enumerate(actions) if action]
    return []


def switch(kernel: Kernel, hooks: list[Hook], stubs: list[int]) -> None:
    """Point every hook to its stub."""
    for hook, stub in zip(hooks, stubs, strict=True):
        write_word(kernel.memory, hook.physical, stub)


def restore(kernel: Kernel, hooks: list[Hook], stubs: list[int]) -> None:
    """Put back what still points to its stub."""
    for hook, stub in zip(hooks, stubs, strict=True):
        if read_word(kernel.memory, hook.physical) == stub:
            write_word(kernel.memory, hook.physical, hook.original)
