"""The tools that a session brings along: busybox, or a folder with a root file system."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.host import cpio
from mizzen.host.cpio import Entry
from mizzen.host.files import explained
from mizzen.host.process import run, which
from mizzen.model.errors import Failure

ELF_INTERPRETER = b"/lib64/ld-linux"
MOUNT_POINTS = ("guest", "proc", "sys", "dev", "tmp", "root", "run")


@dataclass(frozen=True, slots=True)
class Folder:
    """A root file system on the host: its path, and a descriptor of it.

    size: bytes that its files take up in whole pages. count: files, folders and links.
    """

    path: Path
    descriptor: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class Luggage:
    """What a session brings along: a folder, and entries that are added to it or are all."""

    entries: tuple[Entry, ...] = ()
    folder: Folder | None = None

    def copied(self) -> Iterator[Entry]:
        """Yield everything as entries. Raises Failure if a file cannot be read."""
        if self.folder is not None:
            with explained(f"cannot take the tools in {self.folder.path}"):
                yield from cpio.tree(self.folder.path)
        yield from self.entries

    def overlay(self) -> list[Entry]:
        """Return what is laid over the folder when that is served."""
        return [*map(cpio.directory, MOUNT_POINTS), *self.entries]


async def busybox() -> list[Entry]:
    """Return the default tools: the host's static busybox with a link for each applet.

    Raises Failure if the host has none.
    """
    program = which("busybox")
    data = await asyncio.to_thread(Path(program).read_bytes)
    if ELF_INTERPRETER in data[:4096]:
        raise Failure(
            "cannot use busybox as tools",
            f"{program} needs shared libraries, which the guest may not have",
            "run: apt-get install busybox-static",
        )
    applets = await run("busybox", "--list", what="cannot list busybox's tools")
    names = [name for name in applets.text.split() if name != "busybox"]
    return [
        cpio.directory("bin"),
        cpio.file("bin/busybox", data, 0o755),
        *(cpio.link(f"bin/{name}", "busybox") for name in names),
        cpio.directory("etc"),  # so that ps shows users by the names the guest has for them
        *(cpio.link(f"etc/{name}", f"/guest/etc/{name}") for name in ("passwd", "group")),
    ]
