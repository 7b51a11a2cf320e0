"""The tools that a session brings along: a file system, as entries of a cpio archive."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mizzen.host import cpio
from mizzen.host.cpio import Entry
from mizzen.host.files import explained
from mizzen.host.process import run, which
from mizzen.model.errors import Failure

SIZE_MAX = 1 << 30
"""Bytes of tools: they go into the guest's memory, and through ours."""
ELF_INTERPRETER = b"/lib64/ld-linux"


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


def folder(path: Path) -> list[Entry]:
    """Return the tools in a folder, which holds a root file system: bin, lib and so on.

    They are read at once, while we still may. Raises Failure if they cannot be or are too large.
    """
    what = f"cannot take the tools in {path}"
    with explained(what):
        size = sum(file.lstat().st_size for file in path.rglob("*"))
        if size > SIZE_MAX:
            raise Failure(
                what,
                f"they have {size >> 20} MiB, and guests are given at most {SIZE_MAX >> 20}",
                "bring a smaller image",
            )
        return list(cpio.tree(path))
