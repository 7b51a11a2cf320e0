"""Which kernel modules a guest needs, and in which order they load.

Dependencies come from ``modules.dep`` where depmod has written one. A kernel package that was
only unpacked has none; there each module's own ``.modinfo`` section tells them, which is where
depmod has them from.

Source: scripts/mod/modpost.c (add_depends), kmod's modules.dep(5) and modprobe.d(5).
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mizzen.host.files import explained
from mizzen.model.errors import Failure

WANTED = ("virtio_mmio", "virtio_blk", "virtio_console", "virtio_net", "erofs", "overlay")
"""What every guest of ours needs; what these depend on is found by itself."""

WELCOME = ("fuse",)
"""Loaded where there are any: sessions serve large tools by it."""

SUFFIXES = (".ko", ".ko.xz", ".ko.gz")


@dataclass(frozen=True, slots=True)
class Module:
    """A module to load: its name with underscores, and its file."""

    name: str
    path: Path

    def read(self) -> bytes:
        """Return the module as the kernel takes it, decompressed."""
        return decompressed(self.path.read_bytes())


def canonical(name: str) -> str:
    """Return a module's name from a file's name, a path, or a spelling with dashes."""
    return PurePosixPath(name).name.split(".ko")[0].replace("-", "_")


def load_order(
    wanted: Iterable[str], available: Callable[[str], bool], depends: Callable[[str], Iterable[str]]
) -> list[str]:
    """Return wanted modules and all they depend on, each after what it needs.

    available: whether a module is a file; one that is not is built in, or missing, which is for
        the caller to judge. depends: the names that a module needs at once.
    """
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or not available(name):
            return
        seen.add(name)
        for needed in depends(name):
            visit(needed)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def parse_dep(text: str) -> dict[str, tuple[str, ...]]:
    """Read modules.dep: each module's path and the paths of all it needs, in any order."""
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {path.strip(): tuple(needs.split()) for path, _, needs in lines}


def parse_builtin(text: str) -> frozenset[str]:
    """Read modules.builtin: the names of what is compiled into the kernel."""
    return frozenset(canonical(line) for line in text.split())


def modinfo(module: bytes) -> list[tuple[str, str]]:
    """Return the key=value pairs of a module's ``.modinfo`` section; empty if it is no module.

    Only 64-bit little-endian ELF files are read.
    """
    section = _section(module, b".modinfo")
    pairs = (entry.decode(errors="replace").partition("=") for entry in section.split(b"\0"))
    return [(key, value) for key, equals, value in pairs if equals]


def _section(elf: bytes, wanted: bytes) -> bytes:
    try:
        if elf[:6] != b"\x7fELF\x02\x01":
            return b""
        (table,) = struct.unpack_from("<Q", elf, 40)
        size, count, names = struct.unpack_from("<HHH", elf, 58)
        headers = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
        strings = headers[names][4]
        for name, _, _, _, offset, length in headers:
            start = strings + name
            if elf[start : start + len(wanted) + 1] == wanted + b"\0":
                return elf[offset : offset + length]
    except (struct.error, IndexError, OverflowError):
        pass
    return b""


def needs(info: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the names that a module's modinfo asks to be loaded before it."""
    found: list[str] = []
    for key, value in info:
        if key == "depends":
            found += value.split(",")
        elif key == "softdep":
            found += _pre(value.split())
    return tuple(canonical(name) for name in found if name)


def _pre(words: list[str]) -> Iterator[str]:
    before = False
    for word in words:
        if word.endswith(":"):
            before = word == "pre:"
        elif before:
            yield word


def decompressed(data: bytes) -> bytes:
    """Return a module file's content as ELF."""
    if data.startswith(b"\xfd7zXZ\0"):
        return lzma.decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return zlib.decompress(data, wbits=31)
    return data


def needed(folder: Path, wanted: Iterable[str] = WANTED) -> list[Module]:
    """Return the modules to load from a ``lib/modules/RELEASE`` folder, in load order.

    They are the wanted ones, and what is ``WELCOME``.
    Raises Failure if a wanted one is neither there nor built in.
    """
    wanted = tuple(wanted)
    with explained("cannot read the kernel's modules"):
        dep = folder / "modules.dep"
        known = parse_dep(dep.read_text()) if dep.is_file() else None
        paths = known or [str(path.relative_to(folder)) for path in _files(folder)]
        files = {canonical(path): folder / path for path in paths}
        builtin = _read_builtin(folder)
        missing = [name for name in wanted if name not in files and name not in builtin]
        if missing:
            raise Failure(
                "cannot use this kernel",
                f"module {missing[0]} is neither in {folder} nor built in",
                "name the folder of that kernel's modules, lib/modules/RELEASE",
            )
        order = load_order((*wanted, *WELCOME), files.__contains__, _depends(folder, files, known))
    return [Module(name, files[name]) for name in order]


def _read_builtin(folder: Path) -> frozenset[str]:
    listing = folder / "modules.builtin"
    return parse_builtin(listing.read_text()) if listing.is_file() else frozenset()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.ko*")) if path.name.endswith(SUFFIXES))


def _depends(
    folder: Path, files: Mapping[str, Path], known: Mapping[str, tuple[str, ...]] | None
) -> Callable[[str], Iterable[str]]:
    if known:
        return lambda name: map(canonical, known[str(files[name].relative_to(folder))])
    return lambda name: needs(modinfo(Module(name, files[name]).read()))
