"""Answers as JSON, and failures as answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mizzen.control.job_query import Told
from mizzen.model.errors import Failure


class NotFound(Failure):
    """What is asked for is not there."""


class Refused(Failure):
    """Who asks must not."""


def answer(value: object, status: int = 200) -> Response:
    """Return a value as an answer."""
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers, "application/json")


async def refuse(_: Request, error: Exception) -> Response:
    """Return a failure as an answer."""
    assert isinstance(error, Failure)
    status = 404 if isinstance(error, NotFound) else 403 if isinstance(error, Refused) else 409
    return answer(Told(error.what, error.why, error.fix), status)


async def misunderstood(_: Request, error: Exception) -> Response:
    """Return that a request's parameters are wrong as an answer."""
    return answer(Told("cannot understand the request", str(error), "see docs/pipelines.md"), 400)


async def no_route(request: Request, error: Exception) -> Response:
    """Return that there is no such path or method as an answer."""
    assert isinstance(error, HTTPException)
    what = f"cannot answer {request.method} {request.url.path}"
    return answer(Told(what, error.detail, "see docs/pipelines.md"), error.status_code)


HANDLERS: Mapping[Any, Any] = {
    Failure: refuse,
    msgspec.ValidationError: misunderstood,
    HTTPException: no_route,
}
"""Of exceptions, for ``Starlette``."""
