"""A Debian system with systemd, on a disk."""

from __future__ import annotations

from pathlib import Path

from mizzen.builders import apt, rootfs
from mizzen.builders.kernel import debian_kernel
from mizzen.builders.modules import needed
from mizzen.host.cache import keep, workshop
from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.progress import silent

from .machines import SHELL, Root

MODULES = ("virtio_mmio", "virtio_blk", "erofs", "overlay")
CONSOLE = f"""[Unit]
[Service]
ExecStart=/bin/sh -c '{SHELL}'
Environment=PS1=
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""


async def get(folders: Folders, suite: str) -> Root:
    """Return a root with a suite's systemd, and the modules of the suite's cloud kernel."""
    kernel = await debian_kernel(folders, silent, suite)
    assert kernel.modules is not None
    modules = needed(kernel.modules, MODULES)
    return Root(await _disk(folders, suite), tuple((m.name, m.read()) for m in modules))


async def _disk(folders: Folders, suite: str) -> Path:
    kind = folders.cache / "matrix-roots"
    place = kind / f"{suite}.erofs"
    if place.is_file():
        return place
    what = "cannot make a root with systemd"
    async with workshop(kind, what) as temporary:
        sources, settings = await apt.for_others(suite, temporary, what)
        root = temporary / "root"
        await run(
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
            *("--include=systemd-sysv,udev,dbus", f"--aptopt={settings}"),
            *("--dpkgopt=force-unsafe-io", suite, root, "-"),
            what=what,
            stdin=sources.encode(),
            env={"TMPDIR": str(temporary), "LC_ALL": "C.UTF-8"},
        )
        units = root / "etc/systemd/system"
        (units / "console-shell.service").write_text(CONSOLE)
        wants = units / "multi-user.target.wants"
        (wants / "console-shell.service").symlink_to("../console-shell.service")
        (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
        (root / "etc/machine-id").write_text("")
        await rootfs.build(root, temporary / "disk", inside=(), what=what)
        return keep(temporary / "disk", place)
