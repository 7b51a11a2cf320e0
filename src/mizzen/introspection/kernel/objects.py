"""A kernel's variables and structures, read by the names that its own BTF gives their members."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mizzen.introspection.memory.physical import PAGE, BadAddress

from . import btf
from .btf import Btf, Unknown
from .image import Kernel

WHOLE_MAX = 16 << 10
"""Structures up to this many bytes are read at once, larger ones member by member."""
READ_MAX = 128 << 20
KNOWN_PAGES_MAX = 1 << 16
STRING_MAX = 4096
MEMBER_MAX = 4096
"""Bytes of a member that is read as a number, an array of numbers or a text."""
IMAGE_MAX = 512 << 20
CPUS_MAX = 8192
NULL_MAX = 1 << 16
"""No kernel pointer is as small; small numbers are errors or marks."""


@dataclass(frozen=True, slots=True)
class Objects:
    """The running kernel's data. types: None where the kernel has no BTF."""

    kernel: Kernel
    types: Btf | None
    _pages: dict[int, int] = field(default_factory=dict)

    def at(self, name: str, address: int) -> Object:
        """Return the structure of a type at an address. Raises Unknown if BTF has no such type."""
        return Object(self, self.btf.find(name), address)

    def around(self, name: str, member: str, address: int) -> Object:
        """Return the structure that has a member at an address: container_of."""
        type_ = self.btf.find(name)
        return Object(self, type_, address - self.btf.field(type_, member).offset)

    @property
    def btf(self) -> Btf:
        """The types. Raises Unknown if there are none."""
        if self.types is None:
            raise Unknown("its kernel has no BTF (CONFIG_DEBUG_INFO_BTF), which tells where"
                          " things are")  # fmt: skip
        return self.types

    def symbol(self, names: str) -> int:
        """Return a variable's address. Raises Unknown if the kernel's symbol table lacks it."""
        address = self.kernel.symbols.address(names)
        if address is None:
            name = names.replace("|", " or ")
            raise Unknown(f"its kernel names no variable {name} (CONFIG_KALLSYMS_ALL)")
        return address

    def read(self, address: int, size: int) -> bytes:
        """Read virtual memory of the kernel. Raises BadAddress."""
        if not 0 <= size <= READ_MAX:
            raise BadAddress(f"{size} bytes at {address:#x} are too many")
        parts = []
        while size > 0:
            length = min(size, PAGE - address % PAGE)
            parts.append(self.kernel.memory.read(self.physical(address), length))
            address += length
            size -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def number(self, address: int, size: int = 8) -> int:
        """Read an unsigned number. Raises BadAddress."""
        return int.from_bytes(self.read(address, size), "little")

    def string(self, address: int, most: int = STRING_MAX) -> str:
        """Read a text that ends in NUL, up to most bytes. Raises BadAddress."""
        parts = []
        while most > 0:
            length = min(most, PAGE - address % PAGE)
            part, end, _ = self.read(address, length).partition(b"\0")
            parts.append(part)
            if end:
                break
            address += length
            most -= length
        return b"".join(parts).decode(errors="replace")

    def percpu(self) -> list[int]:
        """Return what each CPU adds to the address of a per-CPU variable: __per_cpu_offset.

        Raises Unknown, BadAddress.
        """
        start = self.symbol("__per_cpu_offset")
        count = self.number(self.symbol("nr_cpu_ids"), 4)
        if not 0 < count <= CPUS_MAX:
            raise Unknown(f"its kernel says it has {count} CPUs")
        return list(struct.unpack(f"<{count}Q", self.read(start, 8 * count)))

    def image(self) -> tuple[int, bytes]:
        """Return the kernel's image, and what of its bounds is not mapped: address and bytes."""
        first, last = self.kernel.image[0], self.kernel.image[-1]
        size = min(last.virtual + last.size - first.virtual, IMAGE_MAX)
        return first.virtual, self.kernel.memory.read(first.physical, size)

    def forget(self) -> None:
        """Look pages up anew from now on: a running guest may map others."""
        self._pages.clear()

    def physical(self, address: int) -> int:
        """Return where a virtual address of the kernel is in RAM. Raises BadAddress."""
        page = address // PAGE
        known = self._pages.get(page)
        if known is None:
            if len(self._pages) >= KNOWN_PAGES_MAX:
                self._pages.clear()
            known = self._pages[page] = self.kernel.tables.physical(page * PAGE)
        return known + address % PAGE


class Object:
    """A structure in the kernel's memory.

    Methods take the name of a member, or a path: see ``Btf.field``. They raise Unknown if the
    structure has no such member, BadAddress if the memory cannot be read. A structure is read once:
    what it holds is as of its first use.
    """

    __slots__ = ("_data", "_objects", "address", "type")

    def __init__(self, objects: Objects, type_: int, address: int) -> None:
        self._objects = objects
        self._data = b""
        self.type = type_
        self.address = address

    def number(self, path: str) -> int:
        """Return an integer, signed if its type is, or a pointer's address."""
        types = self._objects.btf
        member = types.field(self.type, path)
        value = int.from_bytes(self.bytes(path)[:8], "little")
        bits = member.bits or min(member.size, 8) * 8
        if not 0 < bits <= 64:
            raise Unknown(f"its BTF has {path} as no number")
        value = value >> member.shift & ((1 << bits) - 1)
        if types.signed(member.type) and value >> (bits - 1):
            value -= 1 << bits
        return value

    def numbers(self, path: str) -> list[int]:
        """Return an array of integers or pointers."""
        types = self._objects.btf
        member = types.field(self.type, path)
        element = types.element(member.type)
        size, signed = types.size(element), types.signed(element)
        data = self.bytes(path)
        if not 0 < size <= 8:
            raise Unknown(f"its BTF has {path} as no array of numbers")
        return [
            int.from_bytes(data[at : at + size], "little", signed=signed)
            for at in range(0, len(data), size)
        ]

    def bytes(self, path: str) -> bytes:
        """Return a member's bytes."""
        member = self._objects.btf.field(self.type, path)
        size = self._objects.btf.size(self.type)
        if member.size > MEMBER_MAX:
            raise Unknown(f"its BTF has {path} as {member.size} bytes")
        if size > WHOLE_MAX or member.offset + member.size > size:
            return self._objects.read(self.address + member.offset, member.size)
        if not self._data:
            self._data = self._objects.read(self.address, size)
        return self._data[member.offset : member.offset + member.size]

    def text(self, path: str) -> str:
        """Return an array of characters, up to the first NUL."""
        return self.bytes(path).partition(b"\0")[0].decode(errors="replace")

    def string(self, path: str) -> str:
        """Return the text that a pointer points to, "" if it is NULL."""
        address = self.number(path)
        return self._objects.string(address) if address else ""

    def place(self, path: str) -> int:
        """Return a member's address."""
        return self.address + self._objects.btf.field(self.type, path).offset

    def inner(self, path: str) -> Object:
        """Return a member that is a structure itself."""
        member = self._objects.btf.field(self.type, path)
        return Object(self._objects, member.type, self.address + member.offset)

    def follow(self, path: str) -> Object | None:
        """Return what a pointer points to, None if that is nothing."""
        types = self._objects.btf
        pointee = types.element(types.field(self.type, path).type)
        address = self.number(path)
        return Object(self._objects, pointee, address) if address >= NULL_MAX else None

    def elements(self, path: str, most: int) -> Iterator[Object]:
        """Yield the structures of an array, the first most of them."""
        types = self._objects.btf
        member = types.field(self.type, path)
        element = types.element(member.type)
        size = types.size(element)
        for number in range(min(most, member.size // size if size else 0)):
            yield Object(self._objects, element, self.address + member.offset + number * size)


def of(kernel: Kernel) -> Objects:
    """Read the kernel's BTF, where it has any that can be read."""
    return Objects(kernel, _types(kernel))


def _types(kernel: Kernel) -> Btf | None:
    start, stop = (kernel.symbols.address(name) for name in ("__start_BTF", "__stop_BTF"))
    if start is not None and stop is not None and 0 < stop - start <= btf.SIZE_MAX:
        try:
            return Btf(kernel.memory.read(kernel.physical(start), stop - start))
        except (Unknown, BadAddress):
            pass  # it may still be found as it is where no symbol names it
    _, image = Objects(kernel, None).image()
    for offset, size in btf.candidates(image):
        try:
            types = Btf(image[offset : offset + size])
            types.find("task_struct")
        except Unknown:
            continue  # a module's, or chance
        return types
    return None
