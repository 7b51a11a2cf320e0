"""Start QEMU: open everything it needs, then hand it over to a process with no rights."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from mizzen.host import process, sockets, tsc
from mizzen.host.files import explained
from mizzen.machines.config import segment
from mizzen.machines.files import MachineFiles
from mizzen.machines.outcome import complaint
from mizzen.machines.protocol import Running
from mizzen.model.errors import Failure
from mizzen.model.machine import Accel, MachineSpec, Port
from mizzen.model.network import Transport

from . import qmp
from .board import MULTIBOOT_SEARCH, Board, board
from .command import Descriptors, arguments

UIDS = range(61184, 65520)
"""systemd's range for dynamic users, which distributions leave free."""

LOG_LIMIT = 64 << 20
"""Bytes of each log; what comes after them is lost, and the machine goes on."""

DYING = 2
"""Seconds that a QEMU whose monitor has closed is given to end."""

KVM = Path("/dev/kvm")


class QemuDriver:
    """Starts machines as QEMU processes (``-M microvm``)."""

    async def start(
        self, spec: MachineSpec, files: MachineFiles, interface: int | None = None
    ) -> Running:
        """Start a VM; see Driver. It is under way when its monitor has answered."""
        what = f"cannot start machine {spec.name}"
        user, groups = identity(spec.accel)
        measured = spec.accel is Accel.TCG and not spec.unikernel
        khz = await asyncio.to_thread(tsc.measure_khz) if measured else 0
        with contextlib.ExitStack() as stack, explained(what):
            log = stack.enter_context(files.vmm.open("ab"))
            inherited = replace(
                _open_all(spec, files, stack, private=user is not None), interface=interface
            )
            spawned = process.spawn(
                arguments(spec, inherited, khz, _board(spec)),
                what=what,
                log=log,
                pass_fds=inherited.all,
                user=user,
                groups=groups,
                file_limit=LOG_LIMIT,
            )
        try:
            ports = await _first_answer(spec, files, spawned)
        except BaseException:
            process.kill(spawned, signal.SIGKILL)
            await process.ended(spawned)
            raise
        return Running(spawned, ports)


def identity(accel: Accel) -> tuple[tuple[int, int] | None, tuple[int, ...]]:
    """Return the (uid, gid) that QEMU becomes and its further groups.

    Root gives it a uid that no process has, any other user keeps their own. Where only root may
    open /dev/kvm, QEMU under KVM stays root.
    """
    if os.geteuid() != 0:
        return None, ()
    groups: tuple[int, ...] = ()
    if accel is Accel.KVM:
        status = KVM.stat()
        if status.st_mode & 0o060 == 0o060 and status.st_gid != 0:
            groups = (status.st_gid,)
        elif status.st_mode & 0o006 != 0o006:
            return None, ()
    taken = _living_uids()
    uid = random.choice([uid for uid in UIDS if uid not in taken])
    return (uid, uid), groups


def _living_uids() -> set[int]:
    uids: set[int] = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            found = re.search(r"^Uid:\t(\d+)", status.read_text(), re.MULTILINE)
            if found:
                uids.add(int(found[1]))
    return uids


def _open_all(
    spec: MachineSpec, files: MachineFiles, stack: contextlib.ExitStack, *, private: bool
) -> Descriptors:
    """Open all that QEMU inherits; the stack closes this process's own descriptors.

    private: QEMU will not be this user, so what it opens again must be readable for all.
    """

    def keep(file: BinaryIO) -> int:
        return stack.enter_context(file).fileno()

    def server(path: Path) -> int:
        return stack.enter_context(sockets.listen(path)).fileno()

    return Descriptors(
        kernel=keep(_kernel(spec, files, private=private)),
        initramfs=(
            keep(_joined(files, spec.initramfs, segment(spec, time.time())))
            if spec.initramfs is not None
            else None
        ),
        memory=keep(_memory(spec)),
        root=keep(spec.root.open("rb")) if spec.root is not None else None,
        log=keep(files.log.open("ab")) if not spec.unikernel else None,
        console=keep(files.console.open("ab")),
        qmp=server(files.qmp),
        console_socket=server(files.console_socket),
        control=server(files.control) if not spec.unikernel else None,
    )


def _board(spec: MachineSpec) -> Board:
    if not spec.unikernel:
        return Board.MICROVM
    with spec.kernel.open("rb") as kernel:
        return board(kernel.read(MULTIBOOT_SEARCH))


def _kernel(spec: MachineSpec, files: MachineFiles, *, private: bool) -> BinaryIO:
    kernel = spec.kernel.open("rb")
    if private and not os.fstat(kernel.fileno()).st_mode & 0o004:
        kernel.close()
        return _joined(files, spec.kernel, b"")
    return kernel


def _joined(files: MachineFiles, first: Path, second: bytes) -> BinaryIO:
    """Return a nameless file that holds a file and some bytes, readable by whoever inherits it."""
    joined = tempfile.TemporaryFile(dir=files.logs)  # noqa: SIM115 - the caller's stack closes it
    with first.open("rb") as source:
        shutil.copyfileobj(source, joined, 1 << 20)
    joined.write(second)
    joined.flush()
    os.fchmod(joined.fileno(), 0o444)
    return joined


def _memory(spec: MachineSpec) -> BinaryIO:
    """Return the machine's RAM: a file of its own size, since QEMU may not make files so large."""
    memory = os.fdopen(os.memfd_create(f"mizzen-{spec.name}"), "r+b", buffering=0)
    memory.truncate(spec.memory << 20)
    os.fchmod(memory.fileno(), 0o666)  # nobody finds it but by a descriptor
    return memory


async def _first_answer(
    spec: MachineSpec, files: MachineFiles, spawned: process.ProcessId
) -> tuple[Port, ...]:
    """Wait for QEMU's monitor, or its end; return the ports it publishes."""
    what = f"cannot start machine {spec.name}"

    async def ask() -> str:
        async with qmp.conversation(files.qmp, what) as client:
            told = await qmp.monitor(client, "info usernet")
            if spec.unikernel:
                await qmp.go(client)
            return told

    asking = asyncio.create_task(ask())
    ending = asyncio.create_task(process.ended(spawned))
    try:
        await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done() or asking.exception() is not None:
            # A QEMU that dies closes its monitor: the one follows the other.
            await asyncio.wait({asking, ending}, timeout=DYING)
        failed = not asking.done() or asking.exception() is not None
        if failed and ending.done():  # what it complained of says more than that it closed
            raise Failure(what, *explain(complaint(files), spec.accel))
        return forwards(await asking)
    finally:
        for task in (asking, ending):
            task.cancel()
        await asyncio.gather(asking, ending, return_exceptions=True)


def forwards(usernet: str) -> tuple[Port, ...]:
    """Read the published ports out of ``info usernet``; there are none without user networking.

    A line is: TCP[HOST_FORWARD]  12  127.0.0.1 39521  10.0.2.15  80  0  0
    """
    pattern = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\S+\s+\S+\s+(\d+)\s+\S+\s+(\d+)")
    return tuple(
        Port(int(host), int(guest), Transport(transport.lower()))
        for transport, host, guest in pattern.findall(usernet)
    )


def explain(last: str, accel: Accel) -> tuple[str, str]:
    """Return (why, fix) for the last words of a QEMU that did not start."""
    if found := re.search(
        r"Could not set up host forwarding rule '(?:tcp|udp):[\d.]+:(\d+)-", last
    ):
        return f"port {found[1]} of this host is taken", "publish another, or 0 for any"
    why = f"QEMU: {last}" if last else "QEMU ended without a word"
    return why, "use --accel tcg" if accel is Accel.KVM else "see mizzen doctor"
