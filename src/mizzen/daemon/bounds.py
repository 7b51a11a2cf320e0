"""How much a client may send, and how long it may take."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_MAX = 4 << 20
"""Bytes of a request's body: what a forge sends of a push with some thousand commits."""

SECONDS = 30.0
"""Until the whole body must have come."""


class Bounded:
    """Hands requests on with their whole body, and refuses those that are too large or slow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            async with asyncio.timeout(SECONDS):
                body = await _body(receive)
        except TimeoutError:
            await _refuse(408, "it did not come whole", scope, receive, send)
            return
        if body is None:
            await _refuse(413, f"it is larger than {BODY_MAX} bytes", scope, receive, send)
            return
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def once() -> Message:
            nonlocal whole
            message, whole = whole, None
            return message or await receive()

        await self._app(scope, once, send)


async def _body(receive: Receive) -> bytes | None:
    """Return what is sent, None if that is too much or breaks off.

    What is too much is read and dropped: who still sends would not hear the answer.
    """
    body: bytearray | None = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if body is not None:
            body += message.get("body", b"")
            body = body if len(body) <= BODY_MAX else None
        if not message.get("more_body", False):
            return None if body is None else bytes(body)


async def _refuse(status: int, why: str, scope: Scope, receive: Receive, send: Send) -> None:
    told = {"what": "cannot take the request", "why": why, "fix": "send less"}
    response = JSONResponse(told, status)
    await response(scope, receive, send)
