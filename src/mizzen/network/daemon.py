"""The daemon's life: open all it needs, give up every other right, answer, end."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import resource
import signal
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.host import capabilities, seccomp, sockets
from mizzen.host.files import explained, locked
from mizzen.model.errors import Failure
from mizzen.store import database
from mizzen.store.network import MIGRATIONS

from .keeper import Broken, Keeper
from .maker import Maker
from .plane import Plane
from .server import Guard, Server

log = logging.getLogger(__name__)

GROUP = "mizzen"
"""Whose members may ask, where there is such a group."""

FAMILIES = frozenset({socket.AF_UNIX, socket.AF_NETLINK})
"""Of sockets that root's daemon may make: it sends no packets of its own."""

USER_FAMILIES = FAMILIES | {socket.AF_INET, socket.AF_INET6}

BACKLOG = 256
"""Connections that wait until they are accepted."""


RESTORE_PAUSE = 1.0
"""Seconds until what could not be put back is tried again."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a daemon runs.

    state: the folder of its database. socket: where it listens, unless the service manager has
    handed a socket over. user: without root, on QEMU's user networking. group: None is GROUP if
    there is one. version: of Mizzen, as it is told to who asks.
    """

    state: Path
    socket: Path
    user: bool
    group: str | None = None
    version: str = ""

    @property
    def database(self) -> Path:
        """The database; one for each mode, as what one keeps the other cannot do."""
        return self.state / ("network-user.db" if self.user else "network.db")


async def run(options: Options) -> None:
    """Answer until SIGTERM or SIGINT. Rules and links stay. Raises Failure."""
    what = "cannot start the network daemon"
    group = None if options.user else _group(options.group, what)
    busy = Failure(what, f"another one has {options.state}", "see: mizzen net status")
    with contextlib.ExitStack() as stack:
        with explained(what):
            # First, so that it has no copy of what is opened below.
            maker = None if options.user else stack.enter_context(contextlib.closing(Maker()))
            stack.enter_context(locked(options.state / "network.lock", busy))
        connection = database.connect(options.database, MIGRATIONS)
        stack.enter_context(contextlib.closing(connection))
        with explained(what):
            listener = stack.enter_context(_listening(options, group))
            _confine(user=options.user)
        plane = await _plane(maker)
        try:
            keeper = Keeper(connection, plane, options.version)
            await keeper.begin()
            server = Server(keeper, Guard(group))
            restoring = asyncio.create_task(_restore(server, plane))
            try:
                await _serve(server, listener, options)
            finally:
                restoring.cancel()
                await asyncio.gather(restoring, return_exceptions=True)
        except Broken as error:
            raise Failure(
                "cannot go on", str(error), "start it again: it makes the network right first"
            ) from error
        finally:
            await plane.close()


async def _serve(server: Server, listener: socket.socket, options: Options) -> None:
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(server.serve(listener))
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, serving.cancel)
    try:
        with contextlib.suppress(OSError):  # nobody waits for it
            sockets.notify_ready()
        log.info("ready at %s, %s", options.socket, "without root" if options.user else "as root")
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        log.info("ended; what it has set up stays")
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _restore(server: Server, plane: Plane) -> None:
    """Put back what other software removes, as ``nft flush ruleset`` removes everybody's rules."""
    while True:
        await plane.removed()
        while not await _restored(server):  # noqa: ASYNC110 - nothing tells when it can be done
            await asyncio.sleep(RESTORE_PAUSE)
        log.warning("the rules had been removed, and are there again")


async def _restored(server: Server) -> bool:
    try:
        await server.restore()
    except Failure as failure:
        log.error("%s", failure)
        return False
    return True


async def _plane(maker: Maker | None) -> Plane:
    # Late, since each takes time to import and needs what the other has no use for.
    if maker is None:
        from .relay import RelayPlane  # noqa: PLC0415

        return RelayPlane()
    from .kernel import KernelPlane  # noqa: PLC0415

    return await KernelPlane.open(maker)


def _confine(*, user: bool) -> None:
    """Give up what is not needed from here on. Raises OSError."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not user:
        capabilities.keep_only(capabilities.Capability.NET_ADMIN)
    seccomp.restrict(USER_FAMILIES if user else FAMILIES, connect=user)


def _group(name: str | None, what: str) -> int | None:
    try:
        return grp.getgrnam(name or GROUP).gr_gid
    except KeyError as error:
        if name is None:
            return None
        raise Failure(
            what, f"there is no group {name}", f"run: sudo groupadd --system {name}"
        ) from error


@contextlib.contextmanager
def _listening(options: Options, group: int | None) -> Iterator[socket.socket]:
    """Listen at the socket that was handed over, or at the path. Raises OSError, Failure."""
    handed = sockets.inherited(socket.SOCK_SEQPACKET)
    if handed is not None:
        with handed:
            yield handed
        return
    folder = options.socket.parent
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o755)
        folder.chmod(0o700 if options.user else 0o755)  # whatever the umask
    _refuse_another(options.socket)
    mode = 0o600 if options.user else 0o660
    with sockets.listen_packets(options.socket, mode, group, BACKLOG) as listener:
        own = options.socket.stat()
        try:
            yield listener
        finally:
            _remove(options.socket, own)


def _refuse_another(path: Path) -> None:
    try:
        sockets.connect(path, socket.SOCK_SEQPACKET).close()
    except OSError as error:
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise Failure(
                "cannot start the network daemon", f"{path} is no socket", "move it away"
            ) from error
        return
    raise Failure(
        "cannot start the network daemon",
        f"another one listens at {path}",
        "stop that first, or give --socket",
    )


def _remove(path: Path, own: os.stat_result) -> None:
    """Remove the socket unless it is another daemon's by now."""
    with contextlib.suppress(OSError):
        now = path.stat()
        if (now.st_dev, now.st_ino) == (own.st_dev, own.st_ino):
            path.unlink()
