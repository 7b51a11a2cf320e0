"""Where the network daemon is."""

from __future__ import annotations

import os
from pathlib import Path

from mizzen.host.paths import Folders
from mizzen.network.client import Network


def client(folders: Folders) -> Network:
    """Return the network that this user's commands ask; ``MIZZEN_NET_SOCKET`` names another."""
    return Network(Path(os.environ.get("MIZZEN_NET_SOCKET") or folders.runtime / "net.sock"))
