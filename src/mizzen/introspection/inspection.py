"""Everything that can be told of a guest from its memory alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from mizzen.model.errors import Failure

from .kernel import objects, vmcoreinfo
from .kernel.btf import Unknown
from .kernel.image import Kernel
from .kernel.objects import Objects
from .memory.physical import BadAddress
from .views import log, memory, mounts, processes, sockets, system
from .views.lists import Broken, Listing
from .views.log import Record
from .views.memory import Memory
from .views.mounts import Mount
from .views.processes import Process
from .views.sockets import Socket
from .views.system import System

T = TypeVar("T")


class Inspection:
    """A guest, running or as a dump has it, to be looked at; nothing is written.

    Each method looks anew and raises Failure that says why it cannot be had. Of a running guest
    what two calls return need not agree.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        """name: what to call the guest in failures."""
        self.kernel = kernel
        self.name = name

    @property
    def release(self) -> str:
        """As ``uname -r`` says in the guest."""
        return self.kernel.release

    def system(self) -> System:
        """Return what there is one of: hostname, command line, uptime, load, panic."""
        return self._look("the system", system.system)

    def memory(self) -> Memory:
        """Return how much memory is used for what."""
        return self._look("memory", memory.memory)

    def processes(self) -> Listing[Process]:
        """Return the processes, in the order in which they were started."""
        return self._look("processes", processes.processes)

    def log(self) -> Listing[Record]:
        """Return the kernel's log, oldest message first."""
        return self._look("the kernel's log", log.log)

    def mounts(self) -> Listing[Mount]:
        """Return the mounts of init's namespace."""
        return self._look("mounts", mounts.mounts)

    def sockets(self) -> Listing[Socket]:
        """Return the sockets that processes hold open."""
        return self._look("sockets", sockets.sockets)

    def vmcoreinfo(self) -> bytes:
        """Return the text that the kernel leaves for those who read its dump."""
        return self._look("vmcoreinfo", vmcoreinfo.text)

    @cached_property
    def _objects(self) -> Objects:
        return objects.of(self.kernel)

    def _look(self, noun: str, view: Callable[[Objects], T]) -> T:
        self._objects.forget()
        try:
            return view(self._objects)
        except Unknown as error:
            raise Failure(f"cannot tell {noun} of {self.name}", str(error)) from error
        except (BadAddress, Broken) as error:
            why = f"what its kernel tells leads nowhere: {error}"
            raise Failure(f"cannot tell {noun} of {self.name}", why) from error
