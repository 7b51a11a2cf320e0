"""Sending something to a web server, once."""

from __future__ import annotations

import asyncio
import re
import ssl
from urllib.parse import SplitResult, urlsplit

HEAD_MAX = 16 << 10
"""Bytes that the head of an answer may have."""

_UNFIT = re.compile(r"[\x00-\x20\x7f]|[^\x00-\x7f]")


def parsed(url: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError unless it is an http or https URL."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or _UNFIT.search(url):
        raise ValueError("it is no URL that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it has a user or password in it, which is not sent")
    _ = parts.port  # raises, too
    return parts


async def post(url: str, body: bytes, kind: str) -> int:
    """Send a body and return the answer's status. kind: its Content-Type.

    Certificates are checked; redirections are not followed, and proxies not used. Cancel it to
    end it at once. Raises ValueError for a URL that is none or an answer that is not HTTP's,
    OSError if the server cannot be talked to.
    """
    parts = parsed(url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=HEAD_MAX)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: mizzen\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        while True:
            status = await _status(reader)
            if status >= 200:  # those before are on the way
                return status
    finally:
        writer.transport.abort()  # nothing more is of interest


async def _status(reader: asyncio.StreamReader) -> int:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        raise ConnectionResetError("it hung up without an answer") from end
    except asyncio.LimitOverrunError as long:
        raise ValueError("its answer is not HTTP's") from long
    found = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]", head)
    if found is None:
        raise ValueError("its answer is not HTTP's")
    return int(found[1])
