"""What became of a guest that no longer answers, as far as its kernel's memory tells.

Source: kernel/panic.c (panic_cpu is -1 until the kernel panics), include/linux/kernel.h (enum
system_states: the state that follows running is halt, then power off, then restart, which a kexec
goes through as well).
"""

from __future__ import annotations

from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import BadAddress
from mizzen.model.errors import Failure

NOBODY = -1
_AFTER_RUNNING = {
    1: "the guest has halted",
    2: "the guest is powering off",
    3: "the guest is rebooting, or has",
}


class Vitals:
    """Remembers how a running kernel looks. A kernel that does not name a variable tells less."""

    def __init__(self, kernel: Kernel) -> None:
        """Look at a kernel that runs."""
        self._kernel = kernel
        self._banner = self._text()
        self._running = self._number("system_state")
        self._panicked = self._number("panic_cpu")

    def reason(self) -> str | None:
        """Return why it stopped, None if it does not look as if it had."""
        if self._text() != self._banner:
            return "the guest has rebooted"
        state, panicked = self._number("system_state"), self._number("panic_cpu")
        if state == self._running:  # of a kernel that restarts, panic_cpu may be overwritten first
            there = self._panicked == NOBODY and panicked not in {None, NOBODY}
            return "the guest's kernel has panicked" if there else None
        if state is None or self._running is None:
            return None
        return _AFTER_RUNNING.get(state - self._running)

    def _number(self, name: str) -> int | None:
        """Return an int of the kernel's, None if that cannot be had."""
        address = self._kernel.symbols.address(name)
        if address is None:
            return None
        try:
            data = self._kernel.memory.read(self._kernel.physical(address), 4)
        except (BadAddress, Failure):
            return None
        return int.from_bytes(data, "little", signed=True)

    def _text(self) -> bytes:
        """Return the kernel's banner, as it is in memory."""
        address = self._kernel.symbols.address("linux_banner")
        if address is None:
            return b""
        try:
            return self._kernel.memory.read(self._kernel.physical(address), 64)
        except (BadAddress, Failure):
            return b""
