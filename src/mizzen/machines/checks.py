"""Refuse a machine that cannot run here, before anything is started."""

from __future__ import annotations

import re
from pathlib import Path

from mizzen.host.files import explained
from mizzen.model.errors import Failure, UsageError
from mizzen.model.machine import MachineSpec, Port, check_name
from mizzen.model.network import Transport

MEMORY_MIN = 96
"""MiB below which stock kernels do not get to init."""

UNIKERNEL_MEMORY_MIN = 8
"""MiB below which QEMU's firmware finds no room."""

VCPUS_MAX = 64

ELF = b"\x7fELF"
BZIMAGE_MAGIC = 0x202
"""Offset of "HdrS" (Documentation/arch/x86/boot.rst)."""


def check_size(
    name: str,
    memory: int,
    vcpus: int,
    publish: tuple[Port, ...],
    *,
    outward: bool,
    least: int = MEMORY_MIN,
) -> None:
    """Raise Failure if no machine of this size can run here, whatever it boots.

    least: MiB of memory that it needs.
    """
    what = f"cannot start machine {check_name(name)}"
    check_bounds(what, memory, vcpus, least)
    available = _available()
    if memory > available:
        raise Failure(
            what,
            f"it wants {memory} MiB of memory and {available} MiB are free",
            "ask for less, or stop other machines",
        )
    for port in publish:
        _check_port(what, port)
        # libslirp, src/udp.c: with restrict=on it drops all UDP of the guest's, answers too.
        if port.transport is Transport.UDP and not outward:
            raise UsageError(
                what,
                "QEMU's user networking answers no UDP for a machine that may not begin",
                "give --outward, and it may reach what you can; or use the network daemon",
            )


def check_bounds(what: str, memory: int, vcpus: int, least: int = MEMORY_MIN) -> None:
    """Raise UsageError if no machine of this size can run anywhere; least as of ``check_size``."""
    if not 1 <= vcpus <= VCPUS_MAX:
        raise UsageError(what, f"{vcpus} virtual CPUs", f"ask for 1 to {VCPUS_MAX}")
    if memory < least:
        raise UsageError(what, f"{memory} MiB of memory are too few", f"ask for {least} or more")


def check(spec: MachineSpec) -> None:
    """Raise Failure if this machine cannot run."""
    least = UNIKERNEL_MEMORY_MIN if spec.unikernel else MEMORY_MIN
    check_size(spec.name, spec.memory, spec.vcpus, spec.publish, outward=spec.outward, least=least)
    what = f"cannot start machine {spec.name}"
    if spec.process is not None and not spec.process.arguments:
        fix = "give its Dockerfile a CMD or ENTRYPOINT"
        raise Failure(what, "its image names no command to run", fix)
    with explained(what):
        check_kernel(spec.kernel, what, unikernel=spec.unikernel)
        for path in (spec.initramfs, spec.root):
            if path is not None:
                path.open("rb").close()


def check_kernel(path: Path, what: str, *, unikernel: bool = False) -> None:
    """Raise Failure if a file is neither a bzImage nor an ELF kernel, OSError if unreadable.

    unikernel: a bzImage is none.
    """
    with path.open("rb") as file:
        begin = file.read(BZIMAGE_MAGIC + 4)
    if unikernel and not begin.startswith(ELF):
        raise Failure(what, f"{path} is no unikernel", "name an ELF file for x86-64")
    if not begin.startswith(ELF) and begin[BZIMAGE_MAGIC:] != b"HdrS":
        raise Failure(what, f"{path} is no Linux kernel", "name a bzImage or an ELF vmlinux")


def _check_port(what: str, port: Port) -> None:
    host = port.host
    if not 0 <= host <= 65535 or not 1 <= port.guest <= 65535:
        raise UsageError(what, f"{port} names no ports", "ports are 1 to 65535")
    privileged = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if 0 < host < privileged:
        raise Failure(
            what,
            f"port {host} is kept for root, and machines do not run as root",
            f"publish a port from {privileged} on, or 0 for any",
        )


def _available() -> int:
    """MiB of memory that the kernel could give without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) >> 10 if found else 1 << 30
