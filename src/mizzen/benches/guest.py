"""A guest as a stranger would start it: Debian's kernel, RAM of QEMU's own, a network by a tap.

QEMU runs in a network namespace of its own, in which the tap is; whoever wants to talk to the
guest over the network enters that. Both end with QEMU, and QEMU ends with this process.
"""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.builders.modules import needed
from mizzen.host import cpio, tsc
from mizzen.host.process import child, last_words, which
from mizzen.machines.qemu.command import CX16
from mizzen.model.errors import Failure
from mizzen.model.image import Kernel
from mizzen.model.machine import Accel

from . import dropbear
from .console import Console

HERE = "10.77.0.1"
THERE = "10.77.0.2"
MODULES = ("virtio_mmio", "virtio_blk", "virtio_net")
BOOT_SECONDS = 120
DATA = "tmp/data"
"""Random bytes in the guest, below its root."""
DATA_SIZE = 8 << 20

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin PS1=
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
for module in /modules/*; do insmod $module; done
ifconfig lo 127.0.0.1
ifconfig eth0 {THERE} netmask 255.255.255.0
head -c {DATA_SIZE} /dev/urandom >/{DATA}
head -c 1024 /dev/urandom >/www/page
httpd -h /www
dropbear -R
exec init
"""

CONSOLE = """#!/bin/sh
stty -echo
echo ready
exec sh -i
"""

NETWORK = f"""\
ip link set lo up
ip tuntap add tap0 mode tap
ip addr add {HERE}/24 dev tap0
ip link set tap0 up
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """What guests boot. initramfs: a file."""

    kernel: Kernel
    accel: Accel
    initramfs: Path


@dataclass(frozen=True, slots=True)
class Guest:
    """A running guest. pid: QEMU's."""

    pid: int
    console: Console

    def inside(self, *arguments: str) -> list[str]:
        """Return a command that runs in the network namespace of the guest's tap."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *arguments]


def write_initramfs(path: Path, kernel: Kernel, server: Path, public_key: str) -> None:
    """Write what the guest boots. server: dropbear, unpacked. public_key: who may enter."""
    modules = needed(kernel.modules, MODULES) if kernel.modules else []
    folders = ("bin", "dev", "etc", "etc/dropbear", "modules", "proc", "sys", "tmp", "www")
    made = [
        *map(cpio.directory, folders),
        cpio.Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        cpio.file("bin/busybox", Path(which("busybox")).read_bytes(), 0o755),
        cpio.link("bin/sh", "busybox"),
        cpio.file("init", INIT.encode(), 0o755),
        cpio.file("etc/inittab", b"ttyS0::respawn:/etc/console\n"),
        cpio.file("etc/console", CONSOLE.encode(), 0o755),
        cpio.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        cpio.file("etc/group", b"root:x:0:\n"),
        cpio.file("etc/shells", b"/bin/sh\n"),
        cpio.directory("root", 0o700),
        cpio.directory("root/.ssh", 0o700),
        cpio.file("root/.ssh/authorized_keys", public_key.encode(), 0o600),
        *(
            cpio.file(f"modules/{number:02}-{module.name}.ko", module.read())
            for number, module in enumerate(modules)
        ),
        *dropbear.entries(server),
    ]
    with path.open("wb") as file:
        file.writelines(cpio.archive(made))


def command(boot: Boot, memory: int, console: int, tsc_khz: int) -> list[str]:
    """Return QEMU's command line. memory: MiB. console: descriptor of a socket."""
    parameters = "console=ttyS0 quiet panic=-1 cryptomgr.notests"
    tcg = boot.accel is Accel.TCG
    if tcg:
        parameters += f" tsc_early_khz={tsc_khz} tsc=reliable clearcpuid={CX16}"
    return [
        "qemu-system-x86_64",
        *("-M", "microvm,rtc=on", "-m", f"{memory}M"),
        *("-accel", "tcg,tb-size=64" if tcg else "kvm", "-cpu", "max" if tcg else "host"),
        *("-kernel", str(boot.kernel.path), "-initrd", str(boot.initramfs)),
        *("-append", parameters),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console"),
        *("-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no"),
        *("-device", "virtio-net-device,netdev=net"),
        # No disk behind it: the guest's way to its disk is what is looked at.
        *("-blockdev", f"driver=null-co,node-name=disk,size={1 << 30},read-zeroes=on"),
        *("-device", "virtio-blk-device,drive=disk"),
    ]


@contextlib.contextmanager
def booted(boot: Boot, memory: int, folder: Path) -> Iterator[Guest]:
    """Boot a guest for as long as the block lasts. memory: MiB. folder: takes QEMU's complaints.

    Raises Failure if it does not boot.
    """
    what = "cannot boot the benchmark's guest"
    for program in ("ip", "qemu-system-x86_64"):
        which(program)
    here, there = socket.socketpair()
    complaints = folder / "qemu.log"
    with here, contextlib.ExitStack() as stack:
        with there, complaints.open("wb") as log:
            arguments = command(boot, memory, there.fileno(), tsc.measure_khz())
            process = stack.enter_context(
                child(
                    ["unshare", "--net", "--", "sh", "-euc", NETWORK, "sh", *arguments],
                    what=what,
                    stdout=log.fileno(),
                    stderr=log.fileno(),
                    pass_fds=[there.fileno()],
                )
            )
        console = Console(here)
        try:
            console.wait_for("ready", BOOT_SECONDS)
        except Failure as failure:
            words = last_words(complaints.read_bytes())
            raise Failure(what, words or failure.why, "see mizzen doctor") from failure
        console.run("true")
        yield Guest(process.pid, console)
