"""The real network daemon as a process, and the command line that asks it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mizzen
from mizzen.host.paths import Folders
from mizzen.network.client import Network

PATIENCE = 30.0


class DaemonProcess:
    """``mizzen net daemon`` with folders of its own. Start it in the namespace it is meant for."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder / "state", folder / "run")
        self.environment = {
            **os.environ,
            "MIZZEN_STATE": str(self.folders.state),
            "MIZZEN_RUNTIME": str(self.folders.runtime),
            "PYTHONPATH": str(Path(mizzen.__file__).parents[1]),
            "COLUMNS": "200",
        }
        self.environment.pop("MIZZEN_NET_SOCKET", None)
        self._process: subprocess.Popen[str] | None = None
        self.log = ""

    @property
    def network(self) -> Network:
        return Network(self.folders.network)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str, before: Sequence[str] = ()) -> None:
        """Start it; return when it says that it is ready, or has ended.

        before: a program that runs it, with its arguments.
        """
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ready:
            ready.bind("")
            name = "@" + ready.getsockname()[1:].decode()
            environment = self.environment | ({} if before else {"NOTIFY_SOCKET": name})
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "mizzen", "net", "daemon", *options],
                env=environment, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            pidfd = os.pidfd_open(self._process.pid)
            try:
                if not before:
                    wait_for_any(ready.fileno(), pidfd)
            finally:
                os.close(pidfd)

    def kill(self) -> None:
        """End it as the kernel does that has no memory left."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end, and return its status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        self.log += process.communicate(timeout=PATIENCE)[1]
        return process.returncode

    def said(self) -> str:
        """Return the next line of its log, but for the one that there can be no cells."""
        assert self._process is not None
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        return self.said() if "cells" in line else line

    def ended(self) -> int:
        """Wait for its end and return its status."""
        assert self._process is not None
        process, self._process = self._process, None
        self.log += process.communicate(timeout=PATIENCE)[1]
        return process.returncode

    def mizzen(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Mizzen's."""
        return subprocess.run(
            [sys.executable, "-m", "mizzen", *words],
            env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip

    def told(self, *words: str) -> Any:
        """Run a command that succeeds, with --json, and return what it says."""
        done = self.mizzen(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def wait_for_any(*descriptors: int) -> None:
    """Wait until one of these can be read."""
    assert select.select(descriptors, [], [], PATIENCE)[0]
