"""The network daemon as root has it, in a network namespace of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from netns import Namespace

from mizzen.network.client import Network

PATIENCE = 60
"""Seconds until it is ready."""


@contextlib.contextmanager
def net_daemon(host: Namespace, place: Path, *options: str) -> Iterator[Network]:
    """Run the daemon in a namespace while the block lasts; yield what asks it.

    options: of its command line, besides the socket.
    """
    path = place / "net.sock"
    environment = {
        **os.environ,
        "MIZZEN_STATE": str(place),
        "MIZZEN_RUNTIME": str(place),
        "NOTIFY_SOCKET": str(place / "ready"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(environment["NOTIFY_SOCKET"])
        ready.settimeout(PATIENCE)
        with host.entered():
            daemon = subprocess.Popen(
                [sys.executable, "-m", "mizzen", "net", "daemon", "--socket", str(path), *options],
                env=environment,
            )
        try:
            assert ready.recv(100) == b"READY=1"
            yield Network(path)
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)
