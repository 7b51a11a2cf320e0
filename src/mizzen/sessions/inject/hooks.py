"""Work items whose function can be exchanged.

A work item's ``func`` is called in process context, may sleep, and is plain data: one aligned
store switches it. These come round by themselves in every guest; several are hooked at once,
because most use deferrable timers, which do not wake an idle CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import read_word, write_word
from mizzen.model.errors import Failure

FUNCTIONS = (
    "vmstat_shepherd",  # mm/vmstat.c, every second
    "flush_memcg_stats_dwork",  # mm/memcontrol.c, every 2 s
    "psi_avgs_work",  # kernel/sched/psi.c, every 2 s while something runs
    "toggle_allocation_gate",  # mm/kfence/core.c, every 100 ms where it is on
    "crng_reseed",  # drivers/char/random.c, every minute
    "neigh_periodic_work",  # net/core/neighbour.c, twice a minute
)
FUNC = 24
"""Offset of func in struct work_struct, behind data and a list_head."""
KERNEL_HALF = 0xFFFF_8000_0000_0000
HOOKS_MAX = 8


@dataclass(frozen=True, slots=True)
class Hook:
    """A function pointer. slot: its virtual address, physical: where that lies in RAM."""

    name: str
    slot: int
    physical: int
    original: int


def find(kernel: Kernel) -> list[Hook]:
    """Find the work items of the image. Raises Failure if there is none."""
    hooks = []
    sections = [kernel.read_image("_sdata", "_edata"), kernel.read_image("__bss_start", "_end")]
    for name in FUNCTIONS:
        function = kernel.symbols.by_name.get(name)
        if function is None:
            continue
        if f"__cfi_{name}" in kernel.symbols.by_name:
            raise Failure(
                "cannot attach",
                "the guest's kernel checks indirect calls (CONFIG_CFI_CLANG), which our code"
                " would not pass",
                "use a kernel without it",
            )
        for address, data in sections:
            for slot in work_items(data, address, function):
                physical = kernel.physical(slot)
                if read_word(kernel.memory, physical) == function:
                    hooks.append(Hook(name, slot, physical, function))
    if not hooks:
        raise Failure(
            "cannot attach",
            "none of the work items it could hook is in the guest's kernel",
            f"use a kernel with one of {', '.join(FUNCTIONS[:3])}",
        )
    return hooks[:HOOKS_MAX]


def work_items(data: bytes, address: int, function: int) -> list[int]:
    """Return the addresses of the func fields in data that hold function.

    A work item is told from any other pointer by the list_head before it, whose two pointers
    lead into the kernel once it is initialised.
    """
    needle = function.to_bytes(8, "little")
    found = []
    place = data.find(needle, FUNC)
    while place >= 0:
        if not (address + place) % 8:
            ahead = int.from_bytes(data[place - 16 : place - 8], "little")
            behind = int.from_bytes(data[place - 8 : place], "little")
            if ahead >= KERNEL_HALF and behind >= KERNEL_HALF:
                found.append(address + place)
        place = data.find(needle, place + 1)
    return found


def switch(kernel: Kernel, hooks: list[Hook], entry: int, armed: int) -> None:
    """Point every hook to entry, then arm it.

    armed: physical address of the word that tells stage 1 whether it may begin.
    """
    for hook in hooks:
        write_word(kernel.memory, hook.physical, entry)
    write_word(kernel.memory, armed, 1)


def restore(kernel: Kernel, hooks: list[Hook], entry: int, armed: int) -> bool:
    """Disarm, and put back what still points to entry.

    Returns False if stage 1 had begun before: then it restores them itself.
    """
    write_word(kernel.memory, armed, 0)
    begun = read_word(kernel.memory, hooks[0].physical) != entry
    for hook in hooks:
        if read_word(kernel.memory, hook.physical) == entry:
            write_word(kernel.memory, hook.physical, hook.original)
    return not begun
