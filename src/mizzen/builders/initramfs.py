"""The initramfs: Mizzen's init and the modules its kernel needs, the same bits each time.

It holds /init, the folders that init mounts things on, /dev/console, each module decompressed
as /modules/NN-NAME.ko, and /mizzen/modules, which lists them in load order as records
``module=PATH`` that end in NUL. A machine's driver appends an archive with what is the
machine's own. It is not compressed: unpacking takes a guest longer than loading more bytes.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from pathlib import Path

from mizzen.host import cpio
from mizzen.host.cache import keep, workshop
from mizzen.host.files import explained
from mizzen.host.paths import Folders, guest_binary
from mizzen.model.errors import Failure
from mizzen.model.image import Kernel

from .modules import Module, needed

FOLDERS = ("dev", "lower", "mizzen", "mnt", "modules", "proc", "root", "run", "sys", "tmp", "upper")


def entries(init: bytes, modules: Iterable[tuple[str, bytes]]) -> list[cpio.Entry]:
    """Return the archive's entries. modules: names and contents in load order."""
    console = cpio.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    made = [*map(cpio.directory, FOLDERS), console, cpio.file("init", init, 0o755)]
    records = bytearray()
    for number, (name, content) in enumerate(modules):
        path = f"modules/{number:02}-{name}.ko"
        made.append(cpio.file(path, content))
        records += f"module=/{path}".encode() + b"\0"
    return [*made, cpio.file("mizzen/modules", bytes(records))]


async def build(folders: Folders, kernel: Kernel, init: Path | None = None) -> Path:
    """Return the initramfs for a kernel, made the first time it is asked for.

    init: the program that becomes /init; None takes Mizzen's own.
    Raises Failure if a module is missing or there is no disk space.
    """
    init = init or guest_binary("init")
    what = "cannot make the initramfs"
    if not init.is_file():
        raise Failure(what, f"{init} is missing", "run: make -C guest, or install Mizzen anew")
    with explained(what):
        program = init.read_bytes()
    folder = folders.cache / "initramfs"
    key = hashlib.sha256(f"2 {kernel.digest} {hashlib.sha256(program).hexdigest()}".encode())
    place = folder / key.hexdigest()
    if place.is_file():
        return place
    async with workshop(folder, what) as temporary:
        modules = needed(kernel.modules) if kernel.modules else []
        _write(temporary / "initramfs", program, modules)
        return keep(temporary / "initramfs", place)


def _write(path: Path, init: bytes, modules: Iterable[Module]) -> None:
    made = entries(init, ((module.name, module.read()) for module in modules))
    with path.open("wb") as file:
        file.writelines(cpio.archive(made))
