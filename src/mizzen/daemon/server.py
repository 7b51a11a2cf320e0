"""Serving an application at a socket that is bound already."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from .bounds import Bounded

CONNECTIONS_MAX = 200
"""At a time; others are told that the server is busy."""

GRACE = 2
"""Seconds that answers may take to end with the server."""


class Server(uvicorn.Server):
    """Serves until ``should_exit``; signals are its owner's."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        config = uvicorn.Config(
            Bounded(app),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
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
