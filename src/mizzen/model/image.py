"""What a machine boots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """How the function's process starts, from the OCI image's config.

    arguments: entrypoint and command, joined as OCI says; empty where the image names none, which
        no machine boots.
    environment: "NAME=value" entries in the image's order.
    user: as in the image: "", "name", "uid", "name:group" or "uid:gid"; "" is root.
    directory: absolute path; "/" where the image names none.
    ports: TCP ports the image exposes, ascending.
    """

    arguments: tuple[str, ...]
    environment: tuple[str, ...] = ()
    user: str = ""
    directory: str = "/"
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to boot and the modules that belong to it.

    path: a bzImage or an ELF vmlinux; of a unikernel, the ELF file that it is.
    release: as ``uname -r`` in the guest says; "" where the file does not tell.
    modules: the folder that holds ``kernel/`` and ``modules.dep``; None where drivers are
        built in or unknown.
    digest: sha256 of the kernel and its modules, in hex.
    """

    path: Path
    release: str
    modules: Path | None
    digest: str


@dataclass(frozen=True, slots=True)
class Image:
    """All that a machine boots, content-addressed: equal digests boot the same bytes.

    reference: what the user named: a folder, an OCI reference.
    initramfs: a cpio archive with init and the modules that the kernel needs; None for a
        unikernel, which is its kernel and nothing else.
    root: an erofs file system; None for a machine that lives in its initramfs.
    process: None for a unikernel.
    """

    reference: str
    kernel: Kernel
    initramfs: Path | None
    root: Path | None
    process: ProcessConfig | None
    digest: str

    def __str__(self) -> str:
        return f"sha256:{self.digest[:12]}"
