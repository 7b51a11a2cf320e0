"""What the kernel leaves for those who read its dump: a text of ``KEY=VALUE`` lines.

It names some symbols, sizes and offsets, so that a dump can be read without debug information.
Source: Documentation/admin-guide/kdump/vmcoreinfo.rst; kernel/vmcore_info.c, before 6.9
kernel/crash_core.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mizzen.introspection.memory.physical import PAGE, BadAddress

from .btf import Unknown
from .image import Kernel
from .kallsyms import KERNEL_MAP
from .objects import Objects

LINKED_AT = 0xFFFF_FFFF_8100_0000
"""Where the image would be without KASLR: CONFIG_PHYSICAL_START, 16 MiB unless changed."""
SIZE_MAX = 2 * PAGE
"""VMCOREINFO_BYTES is a page."""
CHUNK = 16 << 20
FIRST = b"OSRELEASE="
TEXT = re.compile(rb"OSRELEASE=[\x20-\x7e]+\n(?:[\x21-\x3c\x3e-\x7e]+=[\x20-\x7e]*\n)+")
"""No key has a ``=`` in it; so there is one way to read a line, and no crafted one takes long."""
_LINE = re.compile(r"([^=\n]+)=(.*)")


def text(objects: Objects) -> bytes:
    """Return the text as the kernel keeps it. Raises Unknown if it keeps none."""
    found = _named(objects) or _searched(objects)
    if found is None:
        raise Unknown("its kernel has no vmcoreinfo (CONFIG_VMCORE_INFO)")
    return found


def composed(kernel: Kernel) -> bytes:
    """Return what drgn and crash need at least, for a kernel that keeps no text."""
    root = kernel.tables.root - kernel.physical_base + KERNEL_MAP
    first = kernel.image[0].virtual
    lines = [
        f"OSRELEASE={kernel.release}",
        f"PAGESIZE={PAGE}",
        f"SYMBOL(swapper_pg_dir)={root:x}",
        f"SYMBOL(init_top_pgt)={root:x}",
        f"SYMBOL(_stext)={first:x}",
        f"NUMBER(phys_base)={kernel.physical_base}",
        f"NUMBER(pgtable_l5_enabled)={int(kernel.tables.levels == 5)}",
        f"KERNELOFFSET={first - LINKED_AT:x}",
    ]
    names = kernel.symbols.address("init_uts_ns")
    if names is not None:
        lines.insert(2, f"SYMBOL(init_uts_ns)={names:x}")
    return "".join(f"{line}\n" for line in lines).encode()


def parse(data: bytes) -> Mapping[str, str]:
    """Return the values by key, such as ``SYMBOL(prb)``."""
    return dict(_LINE.findall(data.decode("ascii", errors="replace")))


def _named(objects: Objects) -> bytes | None:
    try:
        size = objects.number(objects.symbol("vmcoreinfo_size"))
        start = objects.number(objects.symbol("vmcoreinfo_data"))
        found = TEXT.match(objects.read(start, min(size, SIZE_MAX)))
    except (Unknown, BadAddress):
        return None
    return found[0] if found else None


def _searched(objects: Objects) -> bytes | None:
    """Look for the text in RAM: it is at the beginning of a page.

    That of a kernel from before a kexec names another place for the image.
    """
    memory = objects.kernel.memory
    for block in memory.blocks():
        for start in range(block.start, block.end, CHUNK):
            data = memory.read(start, min(CHUNK, block.end - start))
            for at in range(0, len(data), PAGE):
                found = TEXT.match(data, at, at + SIZE_MAX) if data.startswith(FIRST, at) else None
                if found and _own(objects, found[0]):
                    return found[0]
    return None


def _own(objects: Objects, data: bytes) -> bool:
    values = parse(data)
    return values.get("OSRELEASE") == objects.kernel.release and values.get(
        "NUMBER(phys_base)"
    ) == str(objects.kernel.physical_base)
