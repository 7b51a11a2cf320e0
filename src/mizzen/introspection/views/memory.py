"""How the guest uses its memory, as its /proc/meminfo says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import Object, Objects
from mizzen.introspection.memory.physical import PAGE

NODES_MAX = 1024
ZONES_MAX = 8
PAGES_MAX = 1 << 40
"""x86-64 addresses 4 PiB."""
WMARK_LOW = 1
"""enum zone_watermarks, include/linux/mmzone.h."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes.

    available: what could be had without swapping, by the kernel's own estimate. cached: pages of
    files, block devices' and swap's included. swap_total, swap_free: None where there is no swap.
    """

    total: int
    free: int
    available: int
    cached: int
    shared: int
    anonymous: int
    slab: int
    swap_total: int | None
    swap_free: int | None


def memory(objects: Objects) -> Memory:
    """Return how much memory is used for what. Raises Unknown, BadAddress."""
    zones = _counters(objects, "vm_zone_stat", "zone_stat_item")
    nodes = _counters(objects, "vm_node_stat", "node_stat_item")
    slab = nodes["NR_SLAB_RECLAIMABLE_B"] + nodes["NR_SLAB_UNRECLAIMABLE_B"]
    swap = _pages(objects, "total_swap_pages")
    return Memory(
        total=min(objects.number(objects.symbol("_totalram_pages")), PAGES_MAX) * PAGE,
        free=zones["NR_FREE_PAGES"] * PAGE,
        available=_available(objects, zones["NR_FREE_PAGES"], nodes) * PAGE,
        cached=nodes["NR_FILE_PAGES"] * PAGE,
        shared=nodes["NR_SHMEM"] * PAGE,
        anonymous=nodes["NR_ANON_MAPPED"] * PAGE,
        slab=slab * PAGE,
        swap_total=swap,
        swap_free=_pages(objects, "nr_swap_pages") if swap else None,
    )


class _Counters(dict[str, int]):
    """Counts by name."""

    def __missing__(self, name: str) -> int:
        raise Unknown(f"its kernel does not count {name}")


def _counters(objects: Objects, variable: str, enum: str) -> Mapping[str, int]:
    """Read an array of atomic_long_t. A CPU's part that it has not added yet is left out."""
    numbers = objects.btf.enum(enum)
    start = objects.symbol(variable)
    data = objects.read(start, 8 * (max(numbers.values(), default=0) & 0xFFF))
    return _Counters(
        {
            name: min(max(0, _signed(data[8 * n : 8 * n + 8])), PAGES_MAX)
            for name, n in numbers.items()
        }
    )


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _pages(objects: Objects, variable: str) -> int | None:
    address = objects.kernel.symbols.address(variable)
    return min(objects.number(address), PAGES_MAX) * PAGE if address is not None else None


def _available(objects: Objects, free: int, nodes: Mapping[str, int]) -> int:
    """Estimate as the kernel does, in pages; mm/show_mem.c, si_mem_available."""
    low = _watermark(objects)
    cache = nodes["NR_ACTIVE_FILE"] + nodes["NR_INACTIVE_FILE"]
    slab = nodes["NR_SLAB_RECLAIMABLE_B"] + nodes["NR_KERNEL_MISC_RECLAIMABLE"]
    available = free - objects.number(objects.symbol("totalreserve_pages"))
    available += sum(part - min(part // 2, low) for part in (cache, slab))
    return min(max(0, available), PAGES_MAX)


def _watermark(objects: Objects) -> int:
    """Add up the low watermarks of all zones, in pages."""
    total = 0
    for node in _nodes(objects):
        for zone in node.elements("node_zones", min(node.number("nr_zones"), ZONES_MAX)):
            marks = zone.numbers("_watermark")
            if len(marks) <= WMARK_LOW:
                raise Unknown("its BTF has no low watermark")
            total += marks[WMARK_LOW]
    return total


def _nodes(objects: Objects) -> list[Object]:
    one = objects.kernel.symbols.address("contig_page_data")
    if one is not None:  # without CONFIG_NUMA
        return [objects.at("pglist_data", one)]
    start = objects.symbol("node_data")
    nodes = []
    for number in range(NODES_MAX):
        address = objects.number(start + 8 * number)
        if not address:
            break
        nodes.append(objects.at("pglist_data", address))
    return nodes
