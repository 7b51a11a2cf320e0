"""Where Mizzen keeps its things, and where its guest binaries are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folders:
    """state outlives a reboot (database, caches, logs); runtime does not (sockets)."""

    state: Path
    runtime: Path

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.state / "mizzen.db"

    @property
    def cache(self) -> Path:
        """Content-addressed files; safe to delete while nothing runs."""
        return self.state / "cache"

    @property
    def network(self) -> Path:
        """Where the network daemon listens."""
        return self.runtime / "net.sock"

    @property
    def control(self) -> Path:
        """Where ``mizzen up`` listens."""
        return self.runtime / "up.sock"

    @property
    def engine_lock(self) -> Path:
        """Held by the one ``mizzen up`` or ``mizzen down`` of this state; holds its pid."""
        return self.state / "up.lock"

    def machine(self, name: str) -> Path:
        """Logs of one machine."""
        return self.state / "machines" / name

    def sockets(self, name: str) -> Path:
        """Sockets of one machine."""
        return self.runtime / "machines" / name


def folders() -> Folders:
    """Folders of this user: the system's for root, XDG's for others.

    ``MIZZEN_STATE`` and ``MIZZEN_RUNTIME`` override them.
    """
    env = os.environ
    home = Path(env.get("HOME", "/"))
    if os.geteuid() == 0:
        state, runtime = Path("/var/lib/mizzen"), Path("/run/mizzen")
    else:
        state = Path(env.get("XDG_STATE_HOME") or home / ".local/state") / "mizzen"
        runtime = Path(env.get("XDG_RUNTIME_DIR") or f"/tmp/mizzen-{os.getuid()}") / "mizzen"
    return Folders(
        state=Path(env.get("MIZZEN_STATE") or state).absolute(),
        runtime=Path(env.get("MIZZEN_RUNTIME") or runtime).absolute(),
    )


def expanded(path: str | Path) -> Path:
    """Return a path with the folder that a ~ at its beginning means, as it is if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def guest_binary(name: str) -> Path:
    """Return a program that runs inside guests, built by guest/Makefile into the package."""
    return Path(__file__).parent.parent / "guest" / name


def example(name: str) -> Path:
    """Return an example function's folder: in the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "examples/functions" / name
    return inside if inside.is_dir() else package.parent.parent / "examples/functions" / name
