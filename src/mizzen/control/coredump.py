"""Writing a guest's memory to a file that drgn and crash open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mizzen.host import capabilities
from mizzen.host.capabilities import Capability
from mizzen.host.files import appearing, explained
from mizzen.host.paths import Folders
from mizzen.introspection import core
from mizzen.introspection.inspection import Inspection
from mizzen.introspection.kernel import vmcoreinfo
from mizzen.introspection.memory.physical import Range
from mizzen.model.errors import Failure
from mizzen.model.progress import Report

from . import inspect

MODE = 0o600
"""What a guest has in memory is nobody else's business."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """A core that was written. size: of the file; used: of the disk; both in bytes."""

    path: Path
    release: str
    size: int
    used: int


def coredump(folders: Folders, text: str, path: Path, report: Report) -> Dumped:
    """Write an ELF core of a guest; see ``inspect.opened`` for its name.

    Gives up all privileges but reading other processes' memory and linking its own file, for good.
    Raises Failure that says why it cannot be written; then nothing is left of it.
    """
    what = f"cannot write {path}"
    folder = path.absolute().parent
    with explained(what):
        if path.is_dir():
            raise Failure(what, "it is a folder", "name a file")
        if not folder.is_dir():
            raise Failure(what, f"there is no folder {folder}", "make it")

        def confine() -> None:
            capabilities.act_as_owner(folder)
            # a file of root's is given a name in that folder at last: FOWNER
            capabilities.keep_only(Capability.SYS_PTRACE, Capability.FOWNER)

        with appearing(path, MODE) as file:
            with inspect.opened(text, folders, confine) as guest:
                release = guest.release
                _write(guest, file, report)
            status = os.fstat(file)
    return Dumped(path, release, status.st_size, status.st_blocks * 512)


def _write(guest: Inspection, file: int, report: Report) -> None:
    kernel = guest.kernel
    first, last = kernel.image[0], kernel.image[-1]
    image = Range(first.physical, last.physical + last.size - first.physical)
    try:
        text = guest.vmcoreinfo()
    except Failure:
        text = vmcoreinfo.composed(kernel)
    plan = core.plan(kernel.memory.ranges, (first.virtual, image), kernel.direct_map, text)
    core.write(plan, kernel.memory, file, report)
