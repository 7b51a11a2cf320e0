"""The files of one machine: its logs, which stay, and its sockets, which go with it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.paths import Folders


@dataclass(frozen=True, slots=True)
class MachineFiles:
    """Where one machine's files are.

    log: records of init and the function (``model.log``). console: the serial console, raw.
    vmm: what the VMM itself complained.
    qmp, console_socket, control: Unix sockets, answered while the VMM lives: its own protocol,
    the serial console, and init's commands.
    """

    logs: Path
    sockets: Path

    @classmethod
    def of(cls, folders: Folders, name: str) -> MachineFiles:
        """Return the files of the machine of that name."""
        return cls(folders.machine(name), folders.sockets(name))

    @property
    def log(self) -> Path:
        """Records of init and the function's stdout and stderr."""
        return self.logs / "machine.log"

    @property
    def console(self) -> Path:
        """What the guest wrote to its serial console."""
        return self.logs / "console.log"

    @property
    def vmm(self) -> Path:
        """Stdout and stderr of the VMM's process."""
        return self.logs / "vmm.log"

    @property
    def qmp(self) -> Path:
        """QEMU's monitor."""
        return self.sockets / "qmp.sock"

    @property
    def console_socket(self) -> Path:
        """The serial console, both ways."""
        return self.sockets / "console.sock"

    @property
    def control(self) -> Path:
        """Init's port ``org.mizzen.control``."""
        return self.sockets / "control.sock"

    def make(self) -> None:
        """Create both folders, empty of what an earlier machine of that name left."""
        self.remove()
        for folder in (self.logs, self.sockets):
            folder.mkdir(parents=True, mode=0o700)

    def remove_sockets(self) -> None:
        """Delete what a machine that has ended does not need."""
        shutil.rmtree(self.sockets, ignore_errors=True)

    def remove(self) -> None:
        """Delete everything."""
        self.remove_sockets()
        shutil.rmtree(self.logs, ignore_errors=True)
