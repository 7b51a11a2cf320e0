"""Ways into a guest that are measured beside each other: Mizzen's, and ssh."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.host.process import run

from .guest import THERE, Guest


@dataclass(frozen=True, slots=True)
class Way:
    """A command that runs a shell script in the guest, from the guest's root.

    piped, on_terminal: the command up to the script. environment: added to this process's.
    """

    name: str
    piped: tuple[str, ...]
    on_terminal: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def mizzen(guest: Guest, folder: Path) -> Way:
    """Return the way by ``mizzen attach``, with the state that is in a folder."""
    words = (
        *(sys.executable, "-m", "mizzen", "attach", f"pid:{guest.pid}", "--"),
        *("sh", "-c"),
    )
    state = {"MIZZEN_STATE": str(folder / "state"), "MIZZEN_RUNTIME": str(folder / "runtime")}
    return Way("mizzen", words, words, state)


def ssh(guest: Guest, key: Path) -> Way:
    """Return the way by ssh as it comes, with a connection of its own for each command."""
    options = (
        *("-F", "/dev/null", "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *("-o", "LogLevel=ERROR", "-l", "root"),
    )
    # Its shell begins in /root; what follows the words is joined to them by a space.
    script = (THERE, "cd /;")
    return Way(
        "ssh",
        tuple(guest.inside("ssh", *options, "-T", *script)),
        tuple(guest.inside("ssh", *options, "-tt", *script)),
    )


async def key(folder: Path) -> Path:
    """Make a key for ssh in a folder; its public half has the suffix .pub."""
    place = folder / "key"
    await run(
        *("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mizzen bench", "-f", place),
        what="cannot make a key for ssh",
    )
    return place
