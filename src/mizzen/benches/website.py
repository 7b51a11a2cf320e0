"""A website that a pipeline keeps: its repository, who visits it, and who is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

import mizzen
from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.steps.notify import Webhook

from .place import HOST

WHAT = "cannot set up the benchmark's website"
NAME = "site"
PORT = 8080
STEPS = 11
"""That the pipeline has."""

PIPELINE = """\
from mizzen import pipeline
from mizzen.steps import docker, git, http, machines, network, notify, publish, unikernel


@pipeline
def website():
    source = git.head({repository!r}, "main")
    kernel = docker.file(docker.build(source), "/hello.elf")
    args = [lambda ip: f"--listen={{ip}}:80", source.short.map(lambda one: f"--name={{one}}")]
    spec = machines.spec(
        {name!r}, unikernel.file(kernel), memory="16M", accel="tcg", args=args, ports=[80]
    )
    ip = network.address(spec, prefix="10.70.0.0/24")
    vm = machines.deploy(spec, ip)
    ready = http("/healthz", interval=0.1, attempts=100)
    live = publish.port({name!r}, vm, {{{port}: 80}}, ready=ready, drain="2s")
    machines.monitor(vm)
    notify.webhook({inbox!r}, source.short.gate(live))
    publish.collect([live])
"""

PACE = 0.02
"""Seconds between two requests."""

PATIENCE = 5.0
"""Seconds until a request counts as failed."""

KEPT = 0.5
"""Seconds that a visitor keeps a connection; less than it is drained."""

ANSWERING = 0.03
"""Seconds that the inbox takes to answer, so that some kills are while something is told."""


class Repository:
    """The website's source: a unikernel, built before, and a Dockerfile that holds it.

    commits: the first 12 digits of each hash. Each commit's file is another, so that all that
    follows from it has to be done.
    """

    def __init__(self, folder: Path, kernel: bytes) -> None:
        self.folder = folder
        self.commits: list[str] = []
        self._kernel = kernel

    async def begin(self) -> None:
        """Make it, with a first commit."""
        await run("git", "init", "--quiet", "--initial-branch=main", self.folder, what=WHAT)
        (self.folder / "Dockerfile").write_text("FROM scratch\nCOPY hello.elf /hello.elf\n")
        await self.commit()

    async def commit(self) -> None:
        """Commit another version."""
        number = len(self.commits)
        # What follows the parts that an ELF file names is not loaded.
        (self.folder / "hello.elf").write_bytes(self._kernel + f"\nversion {number}\n".encode())
        who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        await self._git("add", "--all")
        await self._git(*who, "commit", "--quiet", f"--message=version {number}")
        self.commits.append((await self._git("rev-parse", "HEAD"))[:12])

    async def _git(self, *arguments: str) -> str:
        return (await run("git", "-C", self.folder, *arguments, what=WHAT)).text


async def kernel(folder: Path) -> bytes:
    """Return the example's unikernel, built in a folder that is not there yet. Raises Failure."""
    source = Path(mizzen.__file__).parents[2] / "examples/unikernels/hello"
    if not source.is_dir():
        raise Failure(WHAT, "its example is not part of an installation", "run it in a checkout")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.elf", "fuzz"))
    await run("make", "--silent", "-C", folder, "hello.elf", what=WHAT)
    return (folder / "hello.elf").read_bytes()


@dataclass(slots=True)
class Visits:
    """What visitors met. failures: why requests were not answered. last: who answered last."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    last: str = ""
    seen: set[str] = field(default_factory=set)


async def visit(where: NetworkNamespace, visits: Visits, *, kept: bool) -> None:
    """Make requests for ever. kept: several on a connection."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with _connection(where) as (reader, writer):
                end = loop.time() + (KEPT if kept else 0)
                while True:
                    async with asyncio.timeout(PATIENCE):
                        visits.last = await _get(reader, writer)
                    visits.seen.add(visits.last)
                    visits.answered += 1
                    await asyncio.sleep(PACE)
                    if loop.time() >= end:
                        break
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            visits.failures.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(PACE)


@contextlib.asynccontextmanager
async def _connection(
    where: NetworkNamespace,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with where.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.settimeout(0)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(client, (HOST, PORT))
        reader, writer = await asyncio.open_connection(sock=client)
    except BaseException:
        client.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.close()


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Return who answers a request: the first word. Raises ValueError for another answer."""
    writer.write(b"GET / HTTP/1.1\r\nHost: site\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    size = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
    if not head.startswith(b"HTTP/1.1 200 ") or size is None:
        raise ValueError(head[:80].decode(errors="replace"))
    return (await reader.readexactly(int(size[1]))).decode().split()[0]


class _Message(msgspec.Struct):
    text: str


@dataclass(slots=True)
class Inbox:
    """Takes what the pipeline tells. texts: how often each came."""

    texts: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def digests(self, texts: Iterable[str]) -> dict[str, int]:
        """Return how often texts came, by the digests of the jobs that send them."""
        return {
            Webhook(pipeline="website", name="", url=self.url, text=text).digest(): self.texts[text]
            for text in texts
        }

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen at loopback of this thread's network namespace while the block lasts."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}/"
        async with server:
            yield

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
            body = await reader.readexactly(int(size[1]) if size else 0)
            self.texts[msgspec.json.decode(body, type=_Message).text] += 1
            await asyncio.sleep(ANSWERING)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        writer.close()
