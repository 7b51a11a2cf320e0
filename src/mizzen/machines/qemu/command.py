"""QEMU's command line: a pure function of what the machine is and what it inherits."""

from __future__ import annotations

from dataclasses import dataclass

from mizzen.machines.config import ADDRESS, GATEWAY
from mizzen.model.machine import Accel, MachineSpec

from .board import Board

TCG_BUFFER = 32
"""MiB of translated code. QEMU's own choice of 1 GiB would let each machine grow by that."""

TCG_CPU = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+arat"
"""x86-64-v2, which distributions ask for; RDRAND, without which boots wait for entropy; ARAT,
without which an idle guest costs ten times as much."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What QEMU inherits, so that it opens no file of ours by its name.

    kernel, initramfs, memory: opened again by QEMU through /proc/self/fd.
    root: the erofs image, None if there is none. log, console: appended to.
    qmp, console_socket, control: listening sockets. interface: a tap, None with user networking.
    A unikernel has no initramfs, log and control.
    """

    kernel: int
    initramfs: int | None
    memory: int
    root: int | None
    log: int | None
    console: int
    qmp: int
    console_socket: int
    control: int | None
    interface: int | None = None

    @property
    def all(self) -> tuple[int, ...]:
        """Every descriptor, to hand over."""
        maybe = (self.initramfs, self.root, self.log, self.control, self.interface)
        always = (self.kernel, self.memory, self.console, self.qmp, self.console_socket)
        return (*always, *(fd for fd in maybe if fd is not None))


SERVER = "server=on,wait=off"
"""A listening socket that nobody need be connected to."""

CX16 = 4 * 32 + 13
"""The kernel's number of the CPU feature cmpxchg16b (arch/x86/include/asm/cpufeatures.h)."""


def kernel_parameters(spec: MachineSpec, tsc_khz: int) -> str:
    """Return the kernel's command line: a unikernel's own arguments, and more for Linux.

    The console takes warnings and what is worse (an oops among them), init may write there
    without being throttled, and a panic ends QEMU. The kernel's self-tests of its ciphers, a
    fifth of a boot, are left out.

    Under TCG there is no other clock to measure the TSC by, so the kernel is told its rate and
    not to doubt it. And it is told not to use cmpxchg16b: before QEMU 8.0 TCG leaves garbage in
    the flags behind it, which an interrupt at that very place makes real (NT, so that the next
    iret faults). One boot in four of a stock 6.12 died of it, because SLUB uses it all the time.
    Programs still see the instruction, without which they are no x86-64-v2.
    """
    if spec.unikernel:
        return spec.command_line
    parts = [
        "console=ttyS0",
        "quiet",
        "loglevel=5",
        "panic=-1",
        "printk.devkmsg=on",
        "cryptomgr.notests",
    ]
    if spec.accel is Accel.TCG:
        parts += [f"tsc_early_khz={tsc_khz}", "tsc=reliable", f"clearcpuid={CX16}"]
    if spec.command_line:
        parts.append(spec.command_line)
    return " ".join(parts)


def arguments(
    spec: MachineSpec, inherited: Descriptors, tsc_khz: int, board: Board = Board.MICROVM
) -> list[str]:
    """Return QEMU's whole command line.

    tsc_khz: rate of the host's time stamp counter, which TCG hands through to the guest.
    """
    return [
        "qemu-system-x86_64",
        *_machine(spec, inherited, board),
        *_boot(spec, inherited, tsc_khz),
        *_console(inherited),
        *(_unikernel() if spec.unikernel else _init(inherited)),
        *_root(inherited),
        *_network(spec, inherited, board),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    ]


def _machine(spec: MachineSpec, inherited: Descriptors, board: Board) -> list[str]:
    tcg = spec.accel is Accel.TCG
    # Without ACPI, microvm tells of its virtio devices on the command line, where unikernels look.
    parts = "acpi=off" if spec.unikernel else "acpi=on,rtc=on,pit=off,pic=off"
    memory = f"/proc/self/fd/{inherited.memory}"
    return [
        *("-name", f"guest={spec.name}"),
        *("-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none"),
        *("-machine", f"{board},{parts},memory-backend=ram"),
        *("-accel", f"tcg,tb-size={TCG_BUFFER}" if tcg else "kvm"),
        *("-cpu", TCG_CPU if tcg else "host"),
        *("-smp", str(spec.vcpus)),
        *("-m", f"{spec.memory}M"),
        *(
            "-object",
            f"memory-backend-file,id=ram,size={spec.memory}M,mem-path={memory},share=on",
        ),
    ]


def _boot(spec: MachineSpec, inherited: Descriptors, tsc_khz: int) -> list[str]:
    initrd = ["-initrd", f"/proc/self/fd/{inherited.initramfs}"]
    return [
        *("-kernel", f"/proc/self/fd/{inherited.kernel}"),
        *(initrd if inherited.initramfs is not None else []),
        *("-append", kernel_parameters(spec, tsc_khz)),
    ]


def _console(inherited: Descriptors) -> list[str]:
    """Return the serial console and QMP.

    Logs are written by a chardev's own log: unlike its output proper, a full disk under it
    neither stops nor busies the guest.
    """
    return [
        *("-add-fd", f"fd={inherited.console},set=2"),
        *("-chardev", f"socket,id=qmp,fd={inherited.qmp},{SERVER}"),
        *("-mon", "chardev=qmp,mode=control"),
        *(
            "-chardev",
            f"socket,id=console,fd={inherited.console_socket},{SERVER},"
            "logfile=/dev/fdset/2,logappend=on",
        ),
        *("-serial", "chardev:console"),
    ]


def _init(inherited: Descriptors) -> list[str]:
    """Return init's ports."""
    return [
        *("-add-fd", f"fd={inherited.log},set=1"),
        *("-device", "virtio-serial-device"),
        *("-chardev", "file,id=log,path=/dev/null,logfile=/dev/fdset/1,logappend=on"),
        *("-device", "virtserialport,chardev=log,name=org.mizzen.log"),
        *("-chardev", f"socket,id=control,fd={inherited.control},{SERVER}"),
        *("-device", "virtserialport,chardev=control,name=org.mizzen.control"),
    ]


def _unikernel() -> list[str]:
    """Return what ends QEMU when a unikernel writes to it, as Solo5's do.

    The CPUs wait for the monitor's word: else it may end before anybody knows that it has begun.
    """
    return ["-S", "-device", "isa-debug-exit,iobase=0x501,iosize=2"]


def _root(inherited: Descriptors) -> list[str]:
    if inherited.root is None:
        return []
    return [
        *("-add-fd", f"fd={inherited.root},set=3"),
        *(
            "-blockdev",
            "driver=raw,node-name=root,read-only=on,"
            "file.driver=file,file.filename=/dev/fdset/3,file.locking=off",
        ),
        *("-device", "virtio-blk-device,drive=root"),
    ]


def _network(spec: MachineSpec, inherited: Descriptors, board: Board) -> list[str]:
    # Without the ROM that it would boot from.
    device = "virtio-net-pci,romfile=" if board is Board.PC else "virtio-net-device"
    if spec.network is not None:
        return [
            *("-netdev", f"tap,id=net,fd={inherited.interface}"),
            *("-device", f"{device},netdev=net,mac={spec.network.mac}"),
        ]
    forwards = "".join(
        f",hostfwd={port.transport}:127.0.0.1:{port.host}-:{port.guest}" for port in spec.publish
    )
    network = f"{GATEWAY.rpartition('.')[0]}.0/24"
    restrict = "off" if spec.outward else "on"
    return [
        *(
            "-netdev",
            f"user,id=net,restrict={restrict},ipv6=off,net={network},dhcpstart={ADDRESS}{forwards}",
        ),
        *("-device", f"{device},netdev=net"),
    ]
