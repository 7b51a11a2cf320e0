"""The life of ``mizzen up``: one engine a state folder, and who asks it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from mizzen.control import engine_lock
from mizzen.engine.clock import HostClock
from mizzen.engine.engine import Engine
from mizzen.engine.graph import Graph
from mizzen.engine.policy import Level
from mizzen.engine.terms import Term
from mizzen.host import sockets
from mizzen.host.files import explained
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.store import database

from .answers import HANDLERS
from .job_api import JobApi
from .metrics import Metrics
from .server import Server
from .views import Views
from .webhooks import Webhooks

WHAT = "cannot start mizzen up"
FIX = "stop that first, or name another folder by MIZZEN_STATE"

BACKLOG = 64
"""Connections that wait until they are accepted."""


@dataclass(frozen=True, slots=True)
class Options:
    """How pipelines are run.

    confirm: jobs of this level and above wait until they are released. listen: the address and
    port at which metrics, views and webhooks are served besides; None is nowhere. secret: with
    which webhooks are signed; "" refuses them all.
    """

    folders: Folders
    confirm: Level | None = None
    listen: tuple[str, int] | None = None
    secret: str = ""


async def up(
    graphs: Sequence[Graph],
    options: Options,
    *,
    on_change: Callable[[Term[Any]], None],
    on_ready: Callable[[], None],
) -> None:
    """Keep the world as graphs say until SIGTERM or SIGINT; then end all jobs. Raises Failure.

    on_change: called with each term whose state has changed; all ends if it raises, which is
    raised again. on_ready: called once all listens.
    """
    folders = options.folders
    with contextlib.ExitStack() as stack:
        stack.enter_context(engine_lock.held(folders, WHAT, FIX))
        connection = stack.enter_context(contextlib.closing(database.connect(folders.database)))
        control = stack.enter_context(_at_path(folders))
        public = stack.enter_context(_at_port(options.listen)) if options.listen else None
        engine = Engine(connection, folders, HostClock(), confirm=options.confirm)
        teller = _Teller(on_change)
        engine.on_change = teller.note
        metrics = Metrics(engine)
        engine.on_end = metrics.ended
        views = Views(engine, metrics).routes()
        servers = [Server(_app([*JobApi(engine).routes(), *views]), control)]
        if public is not None:
            servers.append(Server(_app([*Webhooks(options.secret).routes(), *views]), public))
        for graph in graphs:
            engine.add(graph)
        await _serve(engine, servers, teller.over, on_ready)
        teller.check()


class _Teller:
    """Tells of terms' changes once they are all computed; ends all if that fails.

    A failure must not tear the engine's work apart. over: set then, and by who wants all to end.
    """

    def __init__(self, tell: Callable[[Term[Any]], None]) -> None:
        self._tell = tell
        self._changed: dict[Term[Any], None] = {}
        self._error: Exception | None = None
        self.over = asyncio.Event()

    def note(self, term: Term[Any]) -> None:
        """Take a change, from amid the engine's work."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._tell_all)
        self._changed[term] = None

    def check(self) -> None:
        """Raise what telling failed of."""
        if self._error is not None:
            raise self._error

    def _tell_all(self) -> None:
        changed, self._changed = self._changed, {}
        if self._error is not None:
            return
        try:
            for term in changed:
                self._tell(term)
        except Exception as error:
            self._error = error
            self.over.set()


async def _serve(
    engine: Engine, servers: Sequence[Server], over: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    numbers = (signal.SIGTERM, signal.SIGINT, *hung_up)
    for number in numbers:
        loop.add_signal_handler(number, over.set)
    answering = [asyncio.create_task(server.answer()) for server in servers]
    waiting = asyncio.create_task(over.wait())
    try:
        with contextlib.suppress(OSError):  # nobody waits for it
            sockets.notify_ready()
        on_ready()
        await asyncio.wait({waiting, *answering}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await engine.stop()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*answering)
        for number in numbers:
            loop.remove_signal_handler(number)


def _app(routes: Sequence[Any]) -> Starlette:
    return Starlette(routes=list(routes), exception_handlers=HANDLERS)


@contextlib.contextmanager
def _at_path(folders: Folders) -> Iterator[socket.socket]:
    """Listen at the control socket, which is this user's alone. Raises Failure."""
    with explained(WHAT):
        folders.runtime.mkdir(parents=True, exist_ok=True)
        listener = sockets.listen(folders.control)
    with listener:
        try:
            yield listener
        finally:
            folders.control.unlink(missing_ok=True)


@contextlib.contextmanager
def _at_port(place: tuple[str, int]) -> Iterator[socket.socket]:
    """Listen at an address and port. Raises Failure."""
    host, port = place
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = f"{host} port {port}: {os.strerror(error.errno or 0)}"
        raise Failure(WHAT, why, "give --listen another address or port") from error
    with listener:
        yield listener
