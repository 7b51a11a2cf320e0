"""Asking a server that listens at a Unix socket, over HTTP."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from mizzen.host import sockets
from mizzen.model.errors import Failure

from .job_query import Told

ValueT = TypeVar("ValueT")

SECONDS = 60.0
"""That an answer may take; looking for a text in all logs is the longest."""


class Absent(Exception):  # noqa: N818 - it is no error that nobody listens
    """Nobody listens."""


class _Connection(http.client.HTTPConnection):
    """A connection to a path instead of a host."""

    def __init__(self, path: Path, seconds: float | None) -> None:
        super().__init__("mizzen")
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        try:
            self.sock = sockets.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Absent from error
        self.sock.settimeout(self._seconds)


def ask(path: Path, what: str, target: str, answer: type[ValueT], *, method: str = "GET") -> ValueT:
    """Return what is answered.

    what: the beginning of the Failure's line. Raises Absent, Failure.
    """
    with _answered(path, what, target, method=method) as response:
        return _decoded(response.read(), answer)


def follow(path: Path, what: str, target: str) -> Iterator[tuple[str, bytes]]:
    """Yield server-sent events as they come: name ("" of most) and data. Raises as ``ask`` does."""
    with _answered(path, what, target, stream=True) as response:
        name, data = "", b""
        while line := response.readline():
            field, _, value = line.rstrip(b"\r\n").partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                data = value
            elif not field:
                yield name, data
                name, data = "", b""


@contextlib.contextmanager
def _answered(
    path: Path, what: str, target: str, *, method: str = "GET", stream: bool = False
) -> Iterator[http.client.HTTPResponse]:
    headers = {"Accept": "text/event-stream"} if stream else {}
    with contextlib.closing(_Connection(path, None if stream else SECONDS)) as connection:
        try:
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                told = _decoded(response.read(), Told)
                raise Failure(told.what, told.why, told.fix)
            yield response
        except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
            why = f"mizzen up does not answer: {str(error) or type(error).__name__}"
            raise Failure(what, why, "see what it printed last") from error


def _decoded(data: bytes, kind: type[ValueT]) -> ValueT:
    return msgspec.json.decode(data, type=kind)
