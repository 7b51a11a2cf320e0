"""``mizzen coredump``: a guest's memory as an ELF core."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from mizzen.control import coredump as control
from mizzen.host.paths import folders

from . import output


def coredump(
    target: str,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--output", "-o"])],
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a guest's memory to a file that drgn, crash and mizzen inspect open.

    The guest is not stopped: what it changes meanwhile may be in the file half old and half new.
    Memory that it never touched takes up no space on the disk.

    Parameters
    ----------
    target
        A machine's name, incident/ID, pid:N for anybody's hypervisor, or file:PATH for a dump.
    out
        The file to write. It appears when it is whole.
    json
        Print one JSON object.
    """
    with output.progress() as report:
        done = control.coredump(folders(), target, out, report)
    if json:
        output.as_json(done)
        return
    size, used = done.size >> 20, done.used >> 20
    output.tell(Text(f"{done.path}: {size} MiB, {used} MiB on disk, Linux {done.release}"))
