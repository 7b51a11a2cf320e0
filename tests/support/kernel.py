"""A kernel whose memory is a bytearray, mapped in one piece."""

from __future__ import annotations

from dataclasses import dataclass, field

from ram import Ram

from mizzen.introspection.kernel.kallsyms import Symbols
from mizzen.introspection.memory.physical import BadAddress

BASE = 0xFFFF_8880_0000_0000


@dataclass
class Tables:
    """Address BASE + n is n."""

    size: int
    levels: int = 4

    def physical(self, virtual: int) -> int:
        if not BASE <= virtual < BASE + self.size:
            raise BadAddress(f"{virtual:#x} is not mapped in the guest")
        return virtual - BASE


@dataclass
class Kernel:
    """As much of ``kernel.image.Kernel`` as the views need."""

    memory: Ram = field(default_factory=lambda: Ram(1 << 20))
    symbols: Symbols = field(default_factory=lambda: Symbols({}))
    release: str = "6.6.6"
    banner: str = "Linux version 6.6.6 (me) #1"
    physical_base: int = 0x1000000

    @property
    def tables(self) -> Tables:
        return Tables(len(self.memory.data))

    def physical(self, virtual: int) -> int:
        return virtual - BASE

    def put(self, address: int, *words: int) -> None:
        """Store words from an offset on."""
        for number, word in enumerate(words):
            self.memory.put(address + 8 * number, word)
