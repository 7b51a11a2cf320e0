"""``POST /webhooks/git``: a forge says that somebody has pushed."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mizzen.sources.poke import poke
from mizzen.sources.webhook import pushed, signed

from .answers import Refused, answer


class Webhooks:
    """Has repositories looked at when somebody who knows the secret says so."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def routes(self) -> Sequence[Route]:
        """Return what is answered, by path."""
        return (Route("/webhooks/git", self._pushed, methods=["POST"]),)

    async def _pushed(self, request: Request) -> Response:
        body = await request.body()
        if not signed(request.headers, body, self._secret):
            why = "it is not signed with the secret" if self._secret else "there is no secret"
            fix = "set webhooks.secret in the settings, and give the forge the same"
            raise Refused("cannot take the webhook", why, fix)
        # All URLs of a repository are given; steps may follow it under any of them.
        followers = max(map(poke, pushed(request.headers, body)), default=0)
        return answer({"followed_by": followers})
