"""Which accelerator runs guests here.

That /dev/kvm opens proves nothing: there are hosts where it opens, creates a virtual CPU, and no
stock kernel gets through its decompressor. So a kernel is booted under KVM once, with init and
nothing else, within a time limit. What came of it is remembered until the host's next boot.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from mizzen.host import cpio, process
from mizzen.host.files import explained
from mizzen.host.paths import guest_binary
from mizzen.model.errors import Failure
from mizzen.model.image import Kernel
from mizzen.model.machine import Accel
from mizzen.model.progress import Progress, Report
from mizzen.store import facts

from .driver import KVM

LIMIT = 10
"""Seconds that the boot may take; where KVM works it takes one."""

SIGN = b"nothing to start"
"""What init says when its machine has no function."""


async def choose(
    wanted: Accel | None, kernel: Kernel, connection: sqlite3.Connection, report: Report
) -> Accel:
    """Return the accelerator to use: the one wanted, or KVM where it really runs this kernel.

    Raises Failure if KVM is wanted and this user cannot open /dev/kvm.
    """
    trouble = _trouble()
    if wanted is Accel.KVM and trouble:
        raise Failure("cannot use KVM", trouble, "use --accel tcg")
    if wanted is not None:
        return wanted
    if trouble:
        return Accel.TCG
    key = await _key(kernel)
    known = facts.recall(connection, key)
    if known is None:
        task = "Trying whether KVM runs guests here"
        report(Progress(task, total=None))
        known = Accel.KVM if await _boots(kernel.path) else Accel.TCG
        facts.remember(connection, key, known)
        report(Progress(task, finished=True))
        if known == Accel.TCG:
            report(Progress("KVM runs no guests here: using TCG, which is slower", finished=True))
    return Accel(known)


def remembered(connection: sqlite3.Connection) -> bool | None:
    """Return whether guests ran under KVM since the host's boot; None if it was not tried."""
    known = facts.recall_any(connection, f"kvm {_boot_id()} ")
    return None if known is None else known == Accel.KVM


def _trouble() -> str:
    """Say why /dev/kvm cannot be opened, "" if it can."""
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{KVM}: {error.strerror}"
    return ""


async def _key(kernel: Kernel) -> str:
    version = await process.run("qemu-system-x86_64", "--version", what="cannot ask for QEMU")
    return f"kvm {_boot_id()} {version.text.splitlines()[0]} {kernel.digest}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def _boots(kernel: Path) -> bool:
    with tempfile.NamedTemporaryFile(prefix="mizzen-probe-") as initramfs:
        with explained("cannot try KVM"):
            initramfs.writelines(
                cpio.archive(
                    [
                        cpio.directory("dev"),
                        cpio.directory("mizzen"),
                        cpio.file("mizzen/machine", b"hostname=probe\0"),
                        cpio.file("init", guest_binary("init").read_bytes(), 0o755),
                    ]
                )
            )
            initramfs.flush()
        try:
            done = await process.run(*_command(kernel, initramfs.name), what="cannot try KVM")
        except Failure:
            return False
        return SIGN in done.stdout


def _command(kernel: Path, initramfs: str) -> list[str | Path]:
    """Return the command; timeout(1) ends it even if this process is killed meanwhile."""
    return [
        *("timeout", "--signal=KILL", str(LIMIT)),
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-machine", "microvm,acpi=on,rtc=on,pit=off,pic=off"),
        *("-accel", "kvm", "-cpu", "host", "-m", "256M"),
        *("-kernel", kernel, "-initrd", initramfs),
        *("-append", "console=ttyS0 quiet panic=-1"),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    ]
