"""Room for code that no function owns.

The linker aligns the kernel's entry text to 2 MiB (ALIGN_ENTRY_TEXT_BEGIN in
arch/x86/kernel/vmlinux.lds.S) and fills the gaps with int3. They are mapped executable, never
run, and never freed, unlike the gap behind _etext. Bytes that never ran are what we need: QEMU's
TCG does not notice writes from outside to code it has already translated.
"""

from __future__ import annotations

import re
import secrets

from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import BadAddress
from mizzen.model.errors import Failure

PAGE = 4096
INT3 = b"\xcc"


def places(text: bytes, address: int, size: int) -> list[int]:
    """Return the page-aligned addresses at which size bytes of text are all int3.

    text: the kernel's text, beginning at a virtual address.
    """
    found: list[int] = []
    for run in re.finditer(re.escape(INT3) + b"{%d,}" % size, text):
        first = address + run.start() + -(address + run.start()) % PAGE
        found.extend(range(first, address + run.end() - size + 1, PAGE))
    return found


def choose(kernel: Kernel, text: bytes, address: int, size: int) -> int:
    """Return the virtual address of size bytes of padding, chosen at random.

    text, address: the kernel's text and where it begins.

    Random, so that what an attach left behind that could not clean up is not met again.
    Raises Failure if the kernel has none.
    """
    candidates = places(text, address, size)
    while candidates:
        place = candidates.pop(secrets.randbelow(len(candidates)))
        if all(_runs(kernel, page) for page in range(place, place + size, PAGE)):
            return place
    raise Failure(
        "cannot attach",
        f"the guest's kernel has no {size // 1024} KiB of padding in its text",
        "use a kernel with CONFIG_MITIGATION_PAGE_TABLE_ISOLATION=y, as distributions build it",
    )


def _runs(kernel: Kernel, virtual: int) -> bool:
    try:
        page = kernel.tables.look_up(virtual)
    except BadAddress:
        return False
    return page is not None and page.executable and page.address == kernel.physical(virtual)
