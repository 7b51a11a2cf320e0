"""Looking at a guest, running or in a dump file, without entering it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mizzen.host.paths import Folders, folders
from mizzen.introspection import target
from mizzen.introspection.dump import DumpFile
from mizzen.introspection.inspection import Inspection
from mizzen.introspection.kernel import image
from mizzen.introspection.views.lists import Listing
from mizzen.introspection.views.log import Record
from mizzen.introspection.views.memory import Memory
from mizzen.introspection.views.mounts import Mount
from mizzen.introspection.views.processes import Process
from mizzen.introspection.views.sockets import Socket
from mizzen.introspection.views.system import System
from mizzen.model.errors import Failure, UsageError

from . import attach

SECTIONS = ("system", "memory", "processes", "mounts", "sockets", "log")
"""What can be told, in the order in which it is."""
FILE = "file:"
PATHS = ("/", "./", "../")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """What was told of a guest. None: not asked for, or not to be had; missing says why, by name.

    incomplete: why a list may lack something, by name.
    """

    name: str
    system: System | None
    memory: Memory | None
    processes: tuple[Process, ...] | None
    mounts: tuple[Mount, ...] | None
    sockets: tuple[Socket, ...] | None
    log: tuple[Record, ...] | None
    missing: dict[str, str]
    incomplete: dict[str, str]


def dump_path(text: str) -> Path | None:
    """Return the dump file that TARGET names, None if it names a running guest."""
    if text.startswith(FILE):
        return Path(text.removeprefix(FILE))
    return Path(text) if text.startswith(PATHS) else None


@contextmanager
def opened(text: str, where: Folders, confine: Callable[[], None]) -> Iterator[Inspection]:
    """Open a guest for looking at it.

    text: a machine's name, ``incident/ID``, ``pid:N``, or a dump: ``file:PATH``, or a path that
    begins with ``/``, ``./`` or ``../``.
    confine: called before anything the guest wrote is looked at, if it runs; a dump needs no
    privileges in the first place.
    Raises Failure that says why it cannot be looked at.
    """
    path = dump_path(text)
    if path is not None:
        with closing(DumpFile(path)) as dump:
            kernel = image.find([dump])
            if kernel is None:
                raise Failure(
                    f"cannot look at {path}",
                    "no Linux kernel's symbol table and page tables are in it",
                    "name a dump of all of a Linux machine's memory",
                )
            yield Inspection(kernel, str(path))
        return
    with _worded(text):
        found = attach.resolve(where, text)
    with target.looked_at(found.pid, confine) as guest:
        yield Inspection(guest.kernel, found.name)


@contextmanager
def _worded(text: str) -> Iterator[None]:
    """Say of a refusal that it was not to attach."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"cannot look at {text}", error.why, error.fix) from error
    except Failure as error:
        raise Failure(f"cannot look at {text}", error.why, error.fix) from error


@contextmanager
def inspect(target: str | Path) -> Iterator[Inspection]:
    """Open a guest for looking at it: a running one, or a dump file, which needs no privileges.

    target: a machine's name, ``incident/ID``, ``pid:N`` or ``file:PATH``; a Path is a dump's.
    Raises Failure that says why it cannot be looked at.
    """
    text = f"{FILE}{target}" if isinstance(target, Path) else target
    with opened(text, folders(), lambda: None) as found:
        yield found


def report(guest: Inspection, sections: tuple[str, ...]) -> Report:
    """Tell the sections that were asked for; what cannot be had does not hold up the rest."""
    missing: dict[str, str] = {}
    incomplete: dict[str, str] = {}

    def had(name: str, look: Callable[[], T]) -> T | None:
        if name not in sections:
            return None
        try:
            return look()
        except Failure as failure:
            missing[name] = failure.why
            return None

    def items(name: str, look: Callable[[], Listing[T]]) -> tuple[T, ...] | None:
        listing = had(name, look)
        if listing is not None and listing.incomplete:
            incomplete[name] = listing.incomplete
        return listing.items if listing is not None else None

    return Report(
        name=guest.name,
        system=had("system", guest.system),
        memory=had("memory", guest.memory),
        processes=items("processes", guest.processes),
        mounts=items("mounts", guest.mounts),
        sockets=items("sockets", guest.sockets),
        log=items("log", guest.log),
        missing=missing,
        incomplete=incomplete,
    )
