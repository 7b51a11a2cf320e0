"""Find out whether a release is ready: try until it is, or for as many times as allowed.

The release's machine wrote what is read here: every length and time is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine

from mizzen.host import process
from mizzen.model.errors import Failure
from mizzen.model.network import Transport
from mizzen.model.service import Probe, ProbeKind, Release, Service

HEAD_MAX = 64 << 10
"""Bytes of a response's head."""

BODY_MAX = 1 << 20
"""Bytes of a response's body that are searched."""

WORDS = 200
"""Characters of somebody else's words in a reason."""


class NotReady(Exception):  # noqa: N818 - it is an answer, not an error
    """Why an attempt failed."""


async def ready(
    service: Service,
    release: Release,
    ended: Callable[[Release], Coroutine[None, None, str]],
    attempted: Callable[[int], None],
) -> int:
    """Wait until a release is ready, and return how many attempts that took.

    ended: waits for its machine's end and tells why. attempted: called after each attempt that
    failed with their number so far.
    Raises Failure that tells why the last attempt failed, or at once that its machine has ended.
    """
    end = asyncio.create_task(ended(release))
    trying = asyncio.create_task(_try(service, release, attempted))
    try:
        await asyncio.wait({end, trying}, return_when=asyncio.FIRST_COMPLETED)
        if end.done() and (not trying.done() or trying.exception() is not None):
            raise _failure(release, f"its machine has ended: {end.result()}")
        return trying.result()
    finally:
        for task in (end, trying):
            task.cancel()
        await asyncio.gather(end, trying, return_exceptions=True)


def check(service: Service) -> None:
    """Raise Failure if a service's probe has no port to be tried at."""
    if service.probe.kind in {ProbeKind.TCP, ProbeKind.HTTP}:
        probe_port(service)


def probe_port(service: Service) -> int:
    """Return the port of a release that is probed."""
    if service.probe.port:
        return service.probe.port
    for port in service.ports:
        if port.transport is Transport.TCP:
            return port.target_port
    raise Failure(
        f"cannot tell when {service.name} is ready",
        "it has no TCP port to try",
        "name a port to try, or let it be ready by a command, or as soon as it runs",
    )


async def _try(service: Service, release: Release, attempted: Callable[[int], None]) -> int:
    probe = service.probe
    loop = asyncio.get_running_loop()
    why = ""
    for attempt in range(1, probe.attempts + 1):
        next_at = loop.time() + probe.interval
        try:
            async with asyncio.timeout(probe.timeout):
                await _attempt(service, release)
        except NotReady as reason:
            why = str(reason)
        except TimeoutError:
            why = f"no answer within {probe.timeout:g} s"
        else:
            return attempt
        attempted(attempt)
        if attempt < probe.attempts:
            await asyncio.sleep(next_at - loop.time())
    times = "once" if probe.attempts == 1 else f"{probe.attempts} times"
    raise _failure(release, f"it was tried {times}, last: {why}")


async def _attempt(service: Service, release: Release) -> None:
    probe = service.probe
    if probe.kind is ProbeKind.NONE:
        return
    if probe.kind is ProbeKind.COMMAND:
        await _command(service, release)
        return
    port = release.port(probe_port(service), Transport.TCP)
    for number, address in enumerate(release.addresses):
        try:
            await _attempt_at(probe, address, port)
        except NotReady as reason:
            if not number:
                raise
            # Most likely it listens in one family only.
            raise NotReady(f"{reason}, while {release.addresses[0]} is ready") from reason


async def _attempt_at(probe: Probe, address: str, port: int) -> None:
    if probe.kind is ProbeKind.HTTP:
        await _http(probe, address, port)
        return
    async with _connected(address, port):
        pass


async def _command(service: Service, release: Release) -> None:
    port = next((port for port in service.ports if port.transport is Transport.TCP), None)
    inner = service.probe.port or (port or service.ports[0]).target_port
    transport = Transport.TCP if service.probe.port or port else Transport.UDP
    environment = {
        "MIZZEN_ADDRESS": release.addresses[0],
        "MIZZEN_PORT": str(release.port(inner, transport)),
    }
    try:
        await process.run("sh", "-c", service.probe.command, what="not ready", env=environment)
    except Failure as failure:
        raise NotReady(f"the command failed: {_printable(failure.why)}") from failure


async def _http(probe: Probe, address: str, port: int) -> None:
    host = f"[{address}]" if ":" in address else address
    what = f"GET http://{host}:{port}{probe.path}"
    request = (
        f"GET {probe.path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        "User-Agent: mizzen\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    try:
        async with _connected(address, port) as (reader, writer):
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status = _status(head)
            if status != probe.status:
                raise NotReady(f"{what} was answered with {status}, not {probe.status}")
            if not probe.contains:
                return
            body = await _body(reader, head)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise NotReady(f"{what} was not answered as HTTP has it") from error
    except OSError as error:
        raise NotReady(f"{what}: {_told(error)}") from error
    if probe.contains.encode() not in body:
        raise NotReady(f"{what} was answered without {probe.contains!r}")


def _status(head: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]", head)
    if found is None:
        raise ValueError(head[:40])
    return int(found[1])


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Read the beginning of a body. Raises ValueError or IncompleteReadError for nonsense."""
    _, _, lines = head.partition(b"\r\n")
    try:
        headers = http.client.parse_headers(io.BytesIO(lines))
    except http.client.HTTPException as error:
        raise ValueError(head[:40]) from error
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return await _chunked(reader)
    length = headers.get("Content-Length")
    if length is not None:
        return await _at_most(reader, min(int(length), BODY_MAX))
    return await _at_most(reader, BODY_MAX)


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < BODY_MAX:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size <= 0:
            break
        body += await _at_most(reader, min(size, BODY_MAX - len(body)))
        if len(body) < BODY_MAX:
            await reader.readexactly(2)
    return body


async def _at_most(reader: asyncio.StreamReader, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := await reader.read(size - len(data))):
        data += more
    return data


@contextlib.asynccontextmanager
async def _connected(
    address: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        reader, writer = await asyncio.open_connection(address, port, limit=HEAD_MAX)
    except OSError as error:
        raise NotReady(f"{address} port {port}: {_told(error)}") from error
    try:
        yield reader, writer
    finally:
        writer.transport.abort()  # a probe waits for nobody's goodbye


def _told(error: OSError) -> str:
    # asyncio's own text of it names the address once more
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:WORDS]


def _failure(release: Release, why: str) -> Failure:
    return Failure(f"{release} is not ready", why)
