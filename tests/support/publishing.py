"""A network daemon in this process, and releases that are small servers or only marks of some."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from memory_plane import MemoryPlane

from mizzen.host import sockets
from mizzen.model.errors import Failure
from mizzen.model.network import Transport
from mizzen.model.progress import Progress
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.network.client import Network
from mizzen.network.keeper import Keeper
from mizzen.network.plane import Plane
from mizzen.network.server import Server
from mizzen.publish.starter import Means
from mizzen.store.database import connect
from mizzen.store.network import MIGRATIONS

HTTP = Probe(ProbeKind.HTTP, interval=0, attempts=3)
NONE = Probe(ProbeKind.NONE)


@contextlib.asynccontextmanager
async def daemon(folder: Path, plane: Plane) -> AsyncIterator[Network]:
    """Run the daemon's own server on a plane while the block lasts."""
    path = folder / "net.sock"
    with contextlib.closing(connect(folder / "network.db", MIGRATIONS)) as connection:
        keeper = Keeper(connection, plane)
        await keeper.begin()
        with sockets.listen_packets(path, 0o600, None, 64) as listener:
            serving = asyncio.create_task(Server(keeper).serve(listener))
            try:
                yield Network(path)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                path.unlink()
                await plane.close()


def service(name: str = "web", port: int = 8080, probe: Probe = HTTP, drain: float = 5) -> Service:
    return Service(name, (ServicePort(port, 80),), probe, drain)


def release(source: str, name: str = "web") -> Release:
    """Return a new release; see ``LocalStarter`` for what its source does."""
    return Release(name, 0, ReleaseState.STARTING, 0.0, source=source)


def elsewhere(port: int, name: str = "web") -> Release:
    """Return a new release that Mizzen does not start."""
    ports = ((80, port, Transport.TCP),)
    new = Release(name, 0, ReleaseState.STARTING, 0.0, addresses=("127.0.0.1",), ports=ports)
    return replace(new, machine="mine")


class Responder:
    """Answers requests of HTTP at a listening socket, which it owns, in this loop."""

    def __init__(self, listener: socket.socket, answer: Callable[[], tuple[str, str]]) -> None:
        """answer: returns the status and the body of each answer."""
        self._answer = answer
        self._listener = listener
        listener.listen(1024)
        listener.setblocking(False)  # noqa: FBT003
        self._tasks: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(listener, self._accept)

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)  # noqa: FBT003
            task = asyncio.create_task(self._attend(connection))
            # Also if it is cancelled before it begins.
            task.add_done_callback(lambda _: connection.close())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attend(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        asked = b""
        with contextlib.suppress(ConnectionError):
            while more := await loop.sock_recv(connection, 4096):
                asked += more
                while b"\r\n\r\n" in asked:
                    request, _, asked = asked.partition(b"\r\n\r\n")
                    status, body = self._answer()
                    head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n"
                    await loop.sock_sendall(connection, (head + body).encode())
                    if b"Connection: close" in request:
                        return


@dataclass
class LocalStarter:
    """Starts HTTP servers in this loop.

    A source is what its server answers: "200", "503"; "fails" does not start, "ends" ends once it
    has started, "waits" answers with 503 until ``gate`` is set.
    """

    events: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    running: dict[str, Responder] = field(default_factory=dict)

    async def close(self) -> None:
        """End all servers and their connections."""
        for server in self.running.values():
            await server.close()

    async def start(self, service: Service, release: Release) -> Release:
        self.events.append(f"start {release}")
        if not release.source:
            return release
        if release.source == "fails":
            raise Failure(f"cannot start machine {release}", "the test says so", "change it")

        def answer() -> tuple[str, str]:
            waits = release.source == "waits"
            status = ("200" if self.gate.is_set() else "503") if waits else release.source
            return status, str(release)

        listener = socket.create_server(("127.0.0.1", 0))
        self.running[release.machine] = Responder(listener, answer)
        ports = ((80, listener.getsockname()[1], Transport.TCP),)
        return replace(release, addresses=("127.0.0.1",), ports=ports)

    async def ended(self, release: Release) -> str:
        if release.source == "ends":
            return "exited with status 1"
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(self, release: Release, grace: float) -> None:
        self.events.append(f"stop {release}")
        server = self.running.pop(release.machine, None)
        if server is not None:
            await server.close()

    async def remove(self, release: Release) -> None:
        self.events.append(f"remove {release}")

    def keep(self, release: Release) -> str:
        self.events.append(f"keep {release}: {release.reason}")
        return "see: the test"


class Told:
    """Takes progress reports, and lets others wait for one."""

    def __init__(self) -> None:
        self.reports: list[Progress] = []
        self._came = asyncio.Event()

    def __call__(self, seen: Progress) -> None:
        self.reports.append(seen)
        self._came.set()

    async def until(self, task: str, done: int = 0) -> None:
        """Wait for a report of a task that is new, and as far as that or further."""
        seen = len(self.reports)
        while not any(one.task == task and one.done >= done for one in self.reports[seen:]):
            self._came.clear()
            await self._came.wait()


@dataclass
class Stage:
    """All that a rollout works with, and what it tells."""

    means: Means
    starter: LocalStarter
    plane: MemoryPlane
    told: Told


@contextlib.asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    plane = MemoryPlane("user")
    starter = LocalStarter()
    told = Told()
    async with daemon(folder, plane) as network:
        with contextlib.closing(connect(folder / "mizzen.db")) as connection:
            yield Stage(Means(connection, network, starter, told), starter, plane, told)
        await starter.close()


@dataclass
class MarkStarter:
    """Starts releases that are files in a folder, so that they outlive a process that is killed."""

    folder: Path
    step: Callable[[], None] = lambda: None

    async def start(self, service: Service, release: Release) -> Release:
        self.step()
        if release.source == "fails":
            raise Failure(f"cannot start machine {release}", "the test says so", "change it")
        (self.folder / release.machine).touch()
        self.step()
        at = {"web": 20000, "api": 30000}[service.name] + release.number
        ports = ((80, at, Transport.TCP),)
        return replace(release, addresses=("127.0.0.1",), ports=ports)

    async def ended(self, release: Release) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(self, release: Release, grace: float) -> None:
        self.step()
        (self.folder / release.machine).unlink(missing_ok=True)
        self.step()

    async def remove(self, release: Release) -> None:
        self.step()

    def keep(self, release: Release) -> str:
        self.step()
        return ""

    @property
    def running(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@contextlib.contextmanager
def daemon_in_thread(folder: Path, mode: str = "user") -> Iterator[Network]:
    """Run a daemon whose asker may fork."""
    ready: Future[tuple[Network, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        end = asyncio.Event()
        async with daemon(folder, MemoryPlane(mode)) as network:
            ready.set_result((network, asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    network, loop, end = ready.result()
    try:
        yield network
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
