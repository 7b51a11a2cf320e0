"""Kernels built from Debian's source packages, with configurations of the matrix's own.

A configuration is a few fragments on top of tinyconfig; only what they name, and what that
selects, is built, which takes minutes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mizzen.builders import apt
from mizzen.host.cache import keep, workshop
from mizzen.host.paths import Folders
from mizzen.model.progress import silent

CONFIGS = Path(__file__).parents[2] / "matrix" / "configs"
OUTPUT = "output"
VALUE = re.compile(r"^(?:# )?(CONFIG_\w+)(?:=| is not set)", re.MULTILINE)


BZIMAGE = "arch/x86/boot/bzImage"
VMLINUX = "vmlinux"
"""Machines boot this by PVH: without a BIOS's help, and without KASLR."""


@dataclass(frozen=True, slots=True)
class Built:
    """A kernel to build. fragments: names in ``CONFIGS``; a later one overrides.

    whole: a complete configuration instead. image: what to boot, below the output folder.
    """

    suite: str
    package: str
    fragments: tuple[str, ...] = ()
    whole: Path | None = None
    image: str = BZIMAGE

    def config(self) -> str:
        """Return what is set on top of the base."""
        if self.whole:
            return self.whole.read_text()
        texts = [(CONFIGS / f"{name}.config").read_text() for name in self.fragments]
        return merged("\n".join(texts))


def merged(text: str) -> str:
    """Return each option's last line."""
    lines = {found[1]: line for line in text.splitlines() if (found := VALUE.match(line))}
    return "\n".join(lines.values()) + "\n"


def unheeded(wanted: str, config: str) -> list[str]:
    """Tell which lines a configuration did not take over, of options that the source has."""
    lines = set(config.splitlines())
    known = {found[1] for found in VALUE.finditer(config)}
    return [
        line
        for line in wanted.splitlines()
        if (found := VALUE.match(line)) and found[1] in known and line not in lines
    ]


class Trees:
    """Unpacked sources, kept for as long as the session, and what is built in them."""

    def __init__(self, folders: Folders, stack: ExitStack) -> None:
        self._folders = folders
        self._stack = stack
        self._unpacked: dict[str, Path] = {}

    async def built(self, kernel: Built) -> Path:
        """Return a kernel's image, built the first time its configuration is met."""
        config = kernel.config()
        kind = self._folders.cache / "matrix-built"
        key = hashlib.sha256(f"{kernel.package}\n{kernel.image}\n{config}".encode())
        place = kind / key.hexdigest()
        if place.is_file():
            return place
        async with workshop(kind, f"cannot build {kernel.package}") as temporary:
            source = await self._source(kernel)
            build(source, config, kernel.image, whole=kernel.whole is not None)
            return keep(Path(shutil.copy(source.parent / OUTPUT / kernel.image, temporary)), place)

    async def _source(self, kernel: Built) -> Path:
        if kernel.package not in self._unpacked:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            async with apt.archive(self._folders, silent, kernel.suite) as archive:
                package = await apt.download(archive, kernel.package, folder, silent)
            unpack(package, folder)
            package.unlink()
            self._unpacked[kernel.package] = folder / kernel.package
        return self._unpacked[kernel.package]


def unpack(package: Path, folder: Path) -> None:
    """Unpack a source package's tarball, without installing the package."""
    subprocess.run(["dpkg-deb", "-x", package, folder / "package"], check=True)
    (tarball,) = (folder / "package/usr/src").glob("*.tar.xz")
    subprocess.run(["tar", "-xf", tarball, "-C", folder], check=True)
    tarball.unlink()


def build(source: Path, config: str, image: str, *, whole: bool) -> None:
    """Build an image; what an earlier build left in the tree is used again where it fits.

    whole: the configuration is complete; otherwise it comes on top of tinyconfig.
    """
    output = source.parent / OUTPUT
    output.mkdir(exist_ok=True)

    def make(*arguments: str) -> None:
        command = ["make", "-s", f"-j{os.cpu_count()}", f"O={output}", *arguments]
        made = subprocess.run(
            command, cwd=source, capture_output=True, text=True, errors="replace", check=False
        )
        assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-4000:]

    if not whole:
        make("tinyconfig")
    with (output / ".config").open("w" if whole else "a") as file:
        file.write(config)
    make("olddefconfig")
    missed = [] if whole else unheeded(config, (output / ".config").read_text())
    assert not missed, missed
    make(Path(image).name)
