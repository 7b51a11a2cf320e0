"""Where rollouts are measured: a client, a host with a real network daemon, and servers.

Each is a network namespace without a name, and every process dies with this one, so that nothing is
left behind. This process is on the host while it measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mizzen.host import sockets
from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.process import ProcessId, child, ended, kill, run, start_time
from mizzen.model.network import Link
from mizzen.model.service import Release, Service
from mizzen.network.client import Network

from . import debian, websocket
from .flows import UdpServer

WHAT = "cannot set up the benchmark's network"
HOST = "192.0.2.1"
PREFIX = "10.70.0.0/16"
PAGE, ECHO = 80, 9000
"""Ports: of nginx; of the websocket and, by UDP, the echo."""

HANDED_OVER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Python: hands a listening socket over as the service manager does (sd_listen_fds(3))."""

NGINX = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests {requests};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    {listen}
    location = /ready {{ return {status} "ready\\n"; }}
    location / {{ return 200 "{name}\\n"; }}
  }}
}}
"""

CLIENT_SYSCTLS = {
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/tcp_tw_reuse": "1",
}
"""Of who begins connections, who would soon wait for one of 28,000 ports that rest a minute."""


def sysctl(values: dict[str, str]) -> None:
    """Set kernel settings of the network namespace that this thread is in, those that there are."""
    for name, value in values.items():
        path = Path("/proc/sys") / name
        if path.exists():
            path.write_text(value)


async def ip(where: NetworkNamespace, *lines: str) -> None:
    """Run lines of ``ip`` in a namespace."""
    await run(*where.inside("ip", "-batch", "-"), what=WHAT, stdin="\n".join(lines).encode())


@contextlib.contextmanager
def namespace() -> Iterator[NetworkNamespace]:
    """Yield a new namespace."""
    made = NetworkNamespace()
    try:
        yield made
    finally:
        made.close()


async def join(
    client: NetworkNamespace, host: NetworkNamespace, number: int, *, third: str = "192.0.2"
) -> None:
    """Lay a cable between a client (.2) and a host (.1)."""
    await ip(
        client,
        "link set lo up",
        f"link add eth{number} type veth peer name out netns {host.path}",
        f"addr add {third}.2/24 dev eth{number}",
        f"link set eth{number} up",
    )
    await ip(host, "link set lo up", f"addr add {third}.1/24 dev out", "link set out up")


@dataclass(slots=True)
class Daemon:
    """A network daemon, whose listening socket lives in this process: a restart loses no request.

    folder: holds its state. log: what it says.
    """

    folder: Path
    listener: socket.socket
    process: ProcessId | None = None
    _stack: contextlib.ExitStack | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "net.sock"

    @property
    def network(self) -> Network:
        """Its client."""
        return Network(self.socket)

    def start(self) -> None:
        """Start it in this thread's network namespace."""
        self._stack = contextlib.ExitStack()
        log = self._stack.enter_context((self.folder / "daemon.log").open("ab"))
        number = self.listener.fileno()
        mizzen = (sys.executable, "-m", "mizzen", "net", "daemon")
        env = {"MIZZEN_STATE": str(self.folder), "MIZZEN_RUNTIME": str(self.folder)}
        command = [sys.executable, "-I", "-S", "-c", HANDED_OVER, str(number), *mizzen]
        started = self._stack.enter_context(
            child(command, what=WHAT, stderr=log.fileno(), pass_fds=(number,), env=env)
        )
        self.process = ProcessId(started.pid, start_time(started.pid))

    def kill(self) -> None:
        """End it as nothing can prevent, and wait until it has."""
        assert self.process is not None
        kill(self.process, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None


def _listen(folder: Path) -> socket.socket:
    folder.mkdir(exist_ok=True)
    return sockets.listen_packets(folder / "net.sock", 0o600, None, 256)


@contextlib.asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[Daemon]:
    """Run a network daemon in this thread's network namespace while the block lasts."""
    listener = _listen(folder)
    with listener:
        running = Daemon(folder, listener)
        running.start()
        try:
            await running.network.status()
            yield running
        finally:
            running.close()


def write_nginx(
    folder: Path, name: str, *, ports: tuple[int, ...] = (PAGE,), requests: int,
    ready: int = 200,
) -> Path:  # fmt: skip
    """Write nginx's settings and return the file.

    ready: the status of /ready. requests: on one connection, before nginx ends it in order.
    """
    folder.mkdir(parents=True)
    listen = " ".join(f"listen {port} backlog=4096;" for port in ports)
    path = folder / "nginx.conf"
    path.write_text(
        NGINX.format(folder=folder, name=name, listen=listen, status=ready, requests=requests)
    )
    return path


def nginx(root: Path, where: NetworkNamespace, settings: Path) -> list[str]:
    """Return nginx's command line."""
    arguments = ("-c", str(settings), "-p", str(settings.parent), "-e", "stderr")
    return where.inside(*debian.command(root, "usr/sbin/nginx", *arguments))


async def open_link(
    network: Network, machine: str, where: NetworkNamespace, label: str = ""
) -> Link:
    """Give a namespace a machine's link, with an address."""
    await network.request_address(f"machine:{machine}", PREFIX)
    link, _ = await network.open_link(machine, label=label, namespace=where.descriptor)
    await ip(
        where,
        "link set lo up",
        f"addr add {link.addresses[0]}/32 dev eth0",
        "link set eth0 up",
        f"route add default via {link.gateways[0]} dev eth0 onlink",
    )
    return link


async def close_link(network: Network, machine: str) -> None:
    """Take back what ``open_link`` gave."""
    await network.close_link(machine)
    await network.release_address(f"machine:{machine}")


@dataclass(slots=True)
class _Server:
    process: ProcessId
    stack: contextlib.AsyncExitStack


class Servers:
    """Starts releases: nginx, a websocket and an echo by UDP, in a namespace with a link.

    requests: on one connection, before nginx ends it in order.
    ready: what a release's /ready is answered with, which is what it is probed for.
    """

    def __init__(self, root: Path, folder: Path, network: Network, requests: int) -> None:
        self.ready = 200
        self._requests = requests
        self.stopped: set[str] = set()
        self._root = root
        self._folder = folder
        self._network = network
        self._running: dict[str, _Server] = {}

    async def start(self, service: Service, release: Release) -> Release:
        """Start a release; see ``publish.starter.Starter``."""
        name = str(release)
        async with contextlib.AsyncExitStack() as stack:
            where = stack.enter_context(namespace())
            stack.push_async_callback(close_link, self._network, name)
            link = await open_link(self._network, name, where, service.name)
            settings = write_nginx(
                self._folder / name, name, ready=self.ready, requests=self._requests
            )
            log = stack.enter_context((settings.parent / "nginx.log").open("ab"))
            command = nginx(self._root, where, settings)
            started = stack.enter_context(child(command, what=WHAT, stderr=log.fileno()))
            await self._echo(stack, where, name)
            process = ProcessId(started.pid, start_time(started.pid))
            self._running[name] = _Server(process, stack.pop_all())
        return replace(release, machine=name, addresses=link.addresses)

    async def ended(self, release: Release) -> str:
        """Wait until nginx has ended."""
        running = self._running.get(str(release))
        if running is not None:
            await ended(running.process)
        return "nginx has ended"

    async def stop(self, release: Release, grace: float) -> None:
        """Let nginx finish what it has begun, end all else, and take the link away."""
        running = self._running.pop(str(release), None)
        if running is None:
            return
        self.stopped.add(str(release))
        kill(running.process, signal.SIGQUIT)
        await ended(running.process, grace)
        await running.stack.aclose()

    async def remove(self, release: Release) -> None:
        """Do nothing: what has stopped has left nothing."""

    def keep(self, release: Release) -> str:
        """Say where nginx's words are."""
        return f"see: {self._folder / str(release) / 'error.log'}"

    async def close(self) -> None:
        """Stop all that run."""
        for running in self._running.values():
            await running.stack.aclose()
        self._running.clear()

    @staticmethod
    async def _echo(stack: contextlib.AsyncExitStack, where: NetworkNamespace, name: str) -> None:
        with where.entered():
            listener = socket.create_server(("0.0.0.0", ECHO))
            packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server = websocket.EchoServer(name, listener)
        await server.start()
        stack.push_async_callback(server.close)
        packets.bind(("0.0.0.0", ECHO))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: UdpServer(name), sock=packets)
        stack.callback(transport.close)
