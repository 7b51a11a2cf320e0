"""The network daemon: where it is, running it, and installing it as a service."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mizzen
from mizzen.host import files, process, sockets
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure, UsageError
from mizzen.model.network import Edge, Transport
from mizzen.network import daemon
from mizzen.network.client import Network
from mizzen.network.protocol import Status

SYSTEM_SOCKET = Path("/run/mizzen/net.sock")
"""Where root's daemon listens."""

LOOK = 2.0
"""Seconds that a daemon is waited for where it is only asked whether it is there."""

START = 60.0
"""Seconds that a daemon may take to be ready, on a very busy host."""

HOMES = ("/home", "/root", "/run/user")
"""What systemd's ProtectHome hides."""


def socket_path(folders: Folders) -> Path:
    """Return where the network daemon is asked: root's if this user may, else the user's own.

    ``MIZZEN_NET_SOCKET`` overrides it.
    """
    env = os.environ
    if env.get("MIZZEN_NET_SOCKET"):
        return Path(env["MIZZEN_NET_SOCKET"]).absolute()
    own = env.get("MIZZEN_RUNTIME") or os.geteuid() == 0
    if not own and os.access(SYSTEM_SOCKET, os.W_OK):
        return SYSTEM_SOCKET
    return folders.network


def client(folders: Folders) -> Network:
    """Return the network as the daemon that is asked keeps it."""
    return Network(socket_path(folders))


async def look(folders: Folders) -> Status | Failure:
    """Return who answers, or why nobody does; wait some 2 s at most."""
    try:
        async with asyncio.timeout(LOOK):
            return await client(folders).status()
    except Failure as failure:
        return failure
    except TimeoutError:
        return Failure(
            "cannot reach the network daemon",
            f"nobody has answered at {socket_path(folders)} within {LOOK:g} s",
            "see: journalctl -u mizzen-net",
        )


def run_daemon(folders: Folders, *, socket: Path | None, group: str | None, user: bool) -> None:
    """Be the network daemon until SIGTERM. Raises Failure.

    socket: None listens where it is asked. user: without root, which is so anyway for others.
    """
    user = user or os.geteuid() != 0
    place = socket or Path(os.environ.get("MIZZEN_NET_SOCKET") or folders.network)
    options = daemon.Options(
        folders.state, place.absolute(), user=user, group=group, version=mizzen.__version__
    )
    asyncio.run(daemon.run(options))


async def ensure_user(folders: Folders) -> Network:
    """Return the network as a daemon keeps it; start one without root if nobody answers.

    It outlives this process, and its log is in the state folder. Raises Failure.
    """
    async with files.turn(folders.runtime / "net.start.lock"):
        path = socket_path(folders)
        if not _answers(path):
            await _start_user(folders, path)
    return client(folders)


def _answers(path: Path) -> bool:
    try:
        sockets.connect(path, socket.SOCK_SEQPACKET).close()
    except (BlockingIOError, PermissionError):
        return True  # it is there, and asking it tells the rest
    except OSError:
        return False
    return True


async def _start_user(folders: Folders, path: Path) -> None:
    what = "cannot start the network daemon"
    log = folders.state / "network-user.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind("")  # the kernel finds an abstract name: unix(7), "Autobind feature"
        ready.settimeout(0)
        with files.explained(what):
            folders.state.mkdir(parents=True, exist_ok=True)
            output = log.open("wb")
        with output:
            daemon_ = process.spawn(
                [sys.executable, "-m", "mizzen", "net", "daemon", "--user", "--socket", str(path)],
                what=what,
                log=output,
                env={
                    "MIZZEN_STATE": str(folders.state),
                    "MIZZEN_RUNTIME": str(folders.runtime),
                    "NOTIFY_SOCKET": "@" + ready.getsockname()[1:].decode(),
                },
            )
        if not await _ready(ready, daemon_):
            process.kill(daemon_, signal.SIGKILL)
            why = process.last_words(log.read_bytes()) or f"it is not ready after {START:g} s"
            raise Failure(what, why, f"see: {log}")


async def _ready(notified: socket.socket, started: process.ProcessId) -> bool:
    """Wait until a process says that it is ready; False if it ends before, or takes too long."""
    loop = asyncio.get_running_loop()
    saying = asyncio.create_task(loop.sock_recv(notified, 4096))
    ending = asyncio.create_task(process.ended(started))
    try:
        done, _ = await asyncio.wait(
            {saying, ending}, timeout=START, return_when=asyncio.FIRST_COMPLETED
        )
        return saying in done
    finally:
        for task in (saying, ending):
            task.cancel()
        await asyncio.gather(saying, ending, return_exceptions=True)


def edge(source: str, target: str, port: str) -> Edge:
    """Return the edge that FROM, TO and PORT[/udp] say. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,5})(?:/(tcp|udp))?", port)
    if not found:
        raise UsageError("cannot read this port", f"{port!r} is none", "write PORT or PORT/udp")
    return Edge(source, target, Transport(found[2] or "tcp"), int(found[1]))


@dataclass(frozen=True, slots=True)
class Unit:
    """A file of the service, and whether it was there already, just so."""

    path: Path
    text: str
    there: bool


def units(root: Path, *, command: str, home: str) -> list[Unit]:
    """Return what makes the daemon a service of systemd's, below a root folder.

    command: what runs mizzen. home: systemd's ProtectHome.
    """
    source = Path(mizzen.__file__).parent / "systemd"
    places = {
        "mizzen-net.socket": "etc/systemd/system",
        "mizzen-net.service": "etc/systemd/system",
        "mizzen.conf": "etc/sysusers.d",
    }
    words = {"@COMMAND@": command, "@HOME@": home}
    found = []
    for name, folder in places.items():
        text = _filled((source / name).read_text(), words)
        path = root / folder / name
        found.append(Unit(path, text, there=path.exists() and path.read_text() == text))
    return found


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def installed_units(root: Path) -> list[Unit]:
    """Return the service's files for this very installation of Mizzen."""
    python = Path(sys.executable)
    hidden = any(path.is_relative_to(home) for path in _installation() for home in HOMES)
    # systemd's own escapes: systemd.service(5), "Command lines".
    quoted = str(python).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return units(root, command=f'"{quoted}" -m mizzen', home="read-only" if hidden else "yes")


def _installation() -> tuple[Path, Path, Path]:
    """Return where this very Mizzen is: its Python, that one's own place, and the package."""
    python = Path(sys.executable)
    return python, python.resolve(), Path(mizzen.__file__).resolve()


def check_enterable() -> None:
    """Raise Failure unless root without capabilities, as the service is, gets at this Mizzen."""
    for path in _installation():
        if folder := closed_folder(path):
            raise Failure(
                "cannot install the service",
                f"it may not enter {folder}, where this Mizzen is, without root's capabilities",
                f"run: sudo chmod go+x {shlex.quote(str(folder))}, or install it elsewhere",
            )


def closed_folder(path: Path) -> Path | None:
    """Return the first folder on the way to a path that root without capabilities may not enter.

    None if there is none. A home is such a folder on Debian: its mode is 0700.
    """
    for folder in reversed(path.parents):
        status = folder.stat()
        shift = 6 if status.st_uid == 0 else 3 if status.st_gid == 0 else 0
        if not status.st_mode >> shift & 1:
            return folder
    return None


def install(wanted: list[Unit]) -> None:
    """Write the files that are not there yet. Raises Failure."""
    for unit in wanted:
        if not unit.there:
            with files.explained("cannot install the service"), files.replacing(unit.path) as path:
                path.write_text(unit.text)
