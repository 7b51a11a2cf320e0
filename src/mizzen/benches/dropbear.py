"""The peer's server: dropbear of Debian's packages, as files for a guest; nothing is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mizzen.host import cpio

from .debian import LIBRARIES, LINKER

PACKAGE = "dropbear-bin"


def entries(root: Path) -> Iterator[cpio.Entry]:
    """Yield dropbear as /bin/dropbear and its libraries in /lib, for an initramfs."""
    yield cpio.file("bin/dropbear", (root / "usr/sbin/dropbear").read_bytes(), 0o755)
    yield cpio.directory("lib")
    yield cpio.directory("lib64")
    yield cpio.link(f"lib64/{LINKER}", f"../lib/{LINKER}")
    for folder in LIBRARIES:
        for path in sorted((root / folder).glob("*.so*")):
            if path.is_symlink():
                yield cpio.link(f"lib/{path.name}", path.readlink().name)
            elif path.is_file():
                yield cpio.file(f"lib/{path.name}", path.read_bytes(), 0o755)
