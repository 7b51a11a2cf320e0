"""Serving an application at a socket that is bound already."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .bounds import SECONDS, Bounded

CONNECTIONS_MAX = 200
"""At a time; more are closed, so that the engine always has descriptors left."""

GRACE = 2
"""Seconds that answers may take to end with the server."""


class Server(uvicorn.Server):
    """Serves until ``should_exit``; signals are its owner's."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        config = uvicorn.Config(
            Bounded(app),
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=[("Connection", "close")],  # so that one deadline holds for a connection
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)

    async def answer(self) -> None:
        """Answer until told to exit."""
        await self.serve(sockets=[self._listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class _Connection(H11Protocol):
    """One request; closed unless it has come within the time, or if there are too many."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
        else:
            self._late = self.loop.call_later(SECONDS, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _close_idle(self) -> None:
        if self.cycle is None:
            self.transport.abort()
