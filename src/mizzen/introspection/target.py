"""The hypervisor: its process, its guest's RAM, the kernel in it, and who else is attached."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mizzen.host import capabilities
from mizzen.host.capabilities import Capability
from mizzen.host.process import ProcessId, start_time
from mizzen.model.errors import Failure

from .kernel import image
from .kernel.image import Kernel
from .memory import mappings
from .memory.mappings import Mapping
from .memory.process import ProcessMemory
from .memory.ram import Source
from .memory.shared import SharedMemory

CANDIDATES = 6
"""A hypervisor's RAM is among its largest mappings."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that can be entered. pidfd becomes readable when its hypervisor ends."""

    process: ProcessId
    pidfd: int
    kernel: Kernel

    def check(self) -> None:
        """Raise Failure if the hypervisor has ended."""
        if select.select([self.pidfd], [], [], 0)[0]:
            raise Failure("the guest is gone", f"its hypervisor, pid {self.process.pid}, has ended")


@contextmanager
def opened(pid: int, confine: Callable[[], None] = lambda: None) -> Iterator[Guest]:
    """Find the guest of a hypervisor and keep others from attaching to it meanwhile.

    confine: called once the memory is open, before anything the guest wrote is looked at: from
    then on CAP_SYS_PTRACE is all that is needed.
    Raises Failure that says why it cannot be entered.
    """
    process = _running(pid, f"cannot attach to pid {pid}")
    what = f"cannot attach to pid {pid}"
    with _alone(process), _found(what, process, confine, writable=True) as guest:
        yield guest


@contextmanager
def looked_at(pid: int, confine: Callable[[], None] = lambda: None) -> Iterator[Guest]:
    """Find the guest of a hypervisor to read its memory; others may be attached to it.

    confine: as for ``opened``. Raises Failure that says why it cannot be looked at.
    """
    what = f"cannot look at pid {pid}"
    with _found(what, _running(pid, what), confine, writable=False) as guest:
        yield guest


def _running(pid: int, what: str) -> ProcessId:
    process = ProcessId(pid, start_time(pid))
    if not process.alive:
        raise Failure(what, "there is no such process", "see: mizzen machines list")
    return process


@contextmanager
def _found(
    what: str, process: ProcessId, confine: Callable[[], None], *, writable: bool
) -> Iterator[Guest]:
    with ExitStack() as stack:
        with _explained(what):
            pidfd = os.pidfd_open(process.pid)
            stack.callback(os.close, pidfd)
            memories: list[Source] = []
            for mapping in _mappings(process.pid):
                memories.append(_memory(process.pid, mapping, writable=writable))
                stack.callback(memories[-1].close)
            confine()
            kernel = image.find(memories)
        if kernel is None:
            raise _no_kernel(what, memories)
        yield Guest(process, pidfd, kernel)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (PermissionError, ProcessLookupError, FileNotFoundError) as error:
        raise _refused(what, error) from error


def _mappings(pid: int) -> list[Mapping]:
    return mappings.candidates(mappings.of_process(pid))[:CANDIDATES]


def _memory(pid: int, mapping: Mapping, *, writable: bool) -> Source:
    """Map what is shared; read the rest, and what may not be mapped, through the process."""
    if mapping.shared and mapping.inode:
        try:
            return SharedMemory(pid, mapping, writable=writable)
        except PermissionError:
            pass  # /proc/PID/map_files asks for more than process_vm_readv does
    return ProcessMemory(pid, mapping)


def _refused(what: str, error: OSError) -> Failure:
    if isinstance(error, PermissionError):
        if capabilities.has(Capability.SYS_PTRACE):
            return Failure(
                what, "the host's kernel forbids reading its memory", "see: mizzen doctor"
            )
        return Failure(what, "its memory may not be read", "run it as root or with CAP_SYS_PTRACE")
    return Failure(what, "the process has ended")


def _no_kernel(what: str, memories: Sequence[Source]) -> Failure:
    if not memories:
        return Failure(
            what,
            "it is no hypervisor: it holds no memory that could be a guest's",
            "name the process of a virtual machine",
        )
    release = image.release_of_any(memories)
    if release is not None:
        return Failure(
            what,
            f"Linux {release} is in its memory, but no symbol table of a running kernel: it has not"
            " booted yet, or was built without one",
            "use a kernel with CONFIG_KALLSYMS=y",
        )
    size = sum(memory.size for memory in memories)
    return Failure(
        what,
        f"no running Linux kernel is in its {size >> 20} MiB of memory: it is no hypervisor, or"
        " its guest has not booted yet, is not Linux, or is encrypted (SEV, TDX)",
        "check the pid, and the guest's console",
    )


@contextmanager
def _alone(process: ProcessId) -> Iterator[None]:
    """Hold the guest's lock: on its /proc/PID/maps, which only those may open who may enter.

    Nothing is left behind, and the lock goes with whoever holds it.
    """
    what = f"cannot attach to pid {process.pid}"
    with ExitStack() as stack:
        with _explained(what):
            file = stack.enter_context(Path(f"/proc/{process.pid}/maps").open("rb"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                what,
                f"{_holder(os.fstat(file.fileno()).st_ino)} is attached to it already",
                "leave that session first",
            ) from None
        yield


def _holder(inode: int) -> str:
    """Return who holds a lock; a line of /proc/locks ends in PID MAJOR:MINOR:INODE START END."""
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "FLOCK" in fields and fields[-3].endswith(f":{inode}"):
            return f"process {fields[-4]}"
    return "another process"
