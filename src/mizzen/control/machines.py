"""Starting machines from what the user names, and all that is asked about them later."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.builders import image, kernel
from mizzen.host.paths import Folders
from mizzen.machines.checks import check_size
from mizzen.machines.qemu import accel
from mizzen.machines.qemu.driver import QemuDriver
from mizzen.machines.registry import Registry
from mizzen.model.errors import UsageError
from mizzen.model.machine import Accel, Machine, MachineSpec, check_name
from mizzen.model.progress import Progress, Report
from mizzen.store import database


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for; the fields are those of MachineSpec where they share a name.

    source: a folder with a Dockerfile, or an OCI reference.
    name: None makes one of the source's. kernel: a file; None takes Debian's.
    accel: None takes what works here.
    """

    source: str
    name: str | None = None
    memory: int = 256
    vcpus: int = 1
    kernel: Path | None = None
    accel: Accel | None = None
    publish: tuple[tuple[int, int], ...] = ()
    command_line: str = ""


@contextlib.contextmanager
def registry(folders: Folders) -> Iterator[Registry]:
    """Yield the machines of these folders."""
    with contextlib.closing(database.connect(folders.database)) as connection:
        yield Registry(folders, connection)


async def start(wish: Wish, folders: Folders, report: Report) -> Machine:
    """Build what a source needs and start a machine of it; return it running.

    Its kernel boots then; what the function does shows in its log. Raises Failure.
    """
    name = check_name(wish.name) if wish.name else name_for(wish.source)
    check_size(name, wish.memory, wish.vcpus, wish.publish)  # before a build that takes minutes
    chosen = kernel.user_kernel(wish.kernel) if wish.kernel else None
    built = await image.build(wish.source, kernel=chosen, folders=folders, report=report)
    with contextlib.closing(database.connect(folders.database)) as connection:
        spec = MachineSpec(
            name=name,
            reference=built.reference,
            kernel=built.kernel.path,
            initramfs=built.initramfs,
            root=built.root,
            process=built.process,
            memory=wish.memory,
            vcpus=wish.vcpus,
            accel=await accel.choose(wish.accel, built.kernel, connection, report),
            command_line=wish.command_line,
            publish=wish.publish,
        )
        task = f"Starting machine {name}"
        report(Progress(task))
        machine = await Registry(folders, connection).start(spec, QemuDriver())
        report(Progress(task, finished=True))
        return machine


def name_for(source: str) -> str:
    """Return a name for a machine of a source: its last part, and something to tell it apart."""
    last = Path(source).absolute().name if Path(source).is_dir() else source.rpartition("/")[2]
    words = re.sub(r"[^a-z0-9]+", "-", last.partition(":")[0].lower()).strip("-")
    return f"{words[:40].strip('-') or 'machine'}-{secrets.token_hex(2)}"


def parse_publication(text: str) -> tuple[int, int]:
    """Read HOST:GUEST, or GUEST alone for any free host port.

    Raises UsageError.
    """
    found = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})", text)
    if not found:
        raise UsageError(
            f"cannot publish {text!r}", "that names no ports", "write HOST:GUEST, as in 8080:80"
        )
    return int(found[1] or 0), int(found[2])
