"""The published port beside the server's own address, and beside proxies, in one run.

One server is reached by three hosts, each a network namespace: one with Mizzen's daemon, where its
port is published; one that only forwards, with connection tracking as any host with a firewall or
containers has it, on which the proxies run; and one that only forwards, and tracks nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.process import child, run
from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Publication, Transport
from mizzen.network.client import Network

from . import debian
from .place import (
    CLIENT_SYSCTLS,
    HOST,
    WHAT,
    ip,
    join,
    namespace,
    nginx,
    open_link,
    sysctl,
    write_nginx,
)
from .wrk import Answered, Wrk

PUBLISHED, DIRECT, BARE = "published", "direct", "direct, nothing tracked"
DOCKER, KAMAL, HAPROXY = "docker-proxy", "kamal-proxy", "HAProxy"

PORTS = {PUBLISHED: 81, DIRECT: 82, BARE: 83, DOCKER: 84, KAMAL: 85, HAPROXY: 86}
"""The server's port for each way: a client's port is used again soon, and one that leads to the
same server by two ways at once would meet its own earlier connection there."""

TRACKED = "198.51.100"
UNTRACKED = "203.0.113"

FIREWALL = """\
table inet tracking {
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ct state established,related accept
  }
}
"""

HAPROXY_SETTINGS = """\
global
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen page
  bind {listen}
  server page {target}
"""

ROUTER_SYSCTLS = {"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "2"}
"""Of hosts that forward; systemd sets the latter on every host (50-default.conf)."""

PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Programs:
    """Where programs are; folders of ``debian.unpacked``. kamal: None where there is none."""

    nginx: Path
    haproxy: Path
    docker: Path
    kamal: Path | None


def kamal() -> Path | None:
    """Return kamal-proxy if this host has it: it is a program of Go's, in no package of Debian."""
    found = shutil.which("kamal-proxy")
    return Path(found) if found else None


@contextlib.asynccontextmanager
async def ways(
    programs: Programs, folder: Path, network: Network, client: NetworkNamespace
) -> AsyncIterator[dict[str, str]]:
    """Yield each way's URL while servers and proxies run. This thread is on Mizzen's host."""
    async with contextlib.AsyncExitStack() as stack:
        server, tracked, bare = (stack.enter_context(namespace()) for _ in range(3))
        link = await open_link(network, "compared", server)
        for number, (host, third) in enumerate(((tracked, TRACKED), (bare, UNTRACKED)), 1):
            await join(client, host, number, third=third)
            await _behind(server, host, number, third)
            with host.entered():
                sysctl({**CLIENT_SYSCTLS, **ROUTER_SYSCTLS})
        await ip(
            client,
            f"route add 10.71.1.2 via {TRACKED}.1",
            f"route add 10.71.2.2 via {UNTRACKED}.1",
        )
        await run(*tracked.inside("nft", "-f", "-"), what=WHAT, stdin=FIREWALL.encode())
        settings = write_nginx(
            folder / "nginx", "page", ports=tuple(PORTS.values()), requests=1_000_000_000
        )
        _start(stack, folder, nginx(programs.nginx, server, settings))
        forward = Forward("", 80, Transport.TCP, link.addresses[0], PORTS[PUBLISHED])
        await network.publish([Publication("compared", (forward,))])
        proxies = _proxies(stack, programs, folder, tracked)
        if programs.kamal is not None:
            await stack.enter_async_context(_kamal(programs.kamal, folder, tracked))
            proxies.append(KAMAL)
        urls = {
            PUBLISHED: f"http://{HOST}/",
            DIRECT: f"http://10.71.1.2:{PORTS[DIRECT]}/",
            BARE: f"http://10.71.2.2:{PORTS[BARE]}/",
            **{name: f"http://{TRACKED}.1:{PORTS[name]}/" for name in proxies},
        }
        for url in urls.values():
            await _answers(client, url)
        try:
            yield urls
        finally:
            await network.unpublish("compared")
            await network.close_link("compared")
            await network.release_address("machine:compared")


async def measure(
    wrk: Wrk, urls: Mapping[str, str], rounds: int, seconds: float, *, short: bool,
    told: Callable[[int], None],
) -> dict[str, list[Answered]]:  # fmt: skip
    """Load one way after the other, in turns; the order is turned round each time."""
    found: dict[str, list[Answered]] = {name: [] for name in urls}
    for number in range(rounds):
        told(number)
        for name in list(urls)[:: -1 if number % 2 else 1]:
            found[name].append(await wrk.measure(urls[name], seconds, short=short))
    told(rounds)
    return found


async def _behind(
    server: NetworkNamespace, host: NetworkNamespace, number: int, third: str
) -> None:
    """Lay a cable between the server and a host that forwards."""
    near, far = f"10.71.{number}.2", f"10.71.{number}.1"
    await ip(
        server,
        f"link add eth{number} type veth peer name in netns {host.path}",
        f"addr add {near}/24 dev eth{number}",
        f"link set eth{number} up",
        f"route add {third}.0/24 via {far}",
    )
    await ip(host, f"addr add {far}/24 dev in", "link set in up")


def _proxies(
    stack: contextlib.AsyncExitStack, programs: Programs, folder: Path, host: NetworkNamespace
) -> list[str]:
    """Start the proxies and return their names."""
    listen, target = f"{TRACKED}.1", "10.71.1.2"
    # It tells a descriptor 3 that it listens, as dockerd hands it one.
    ready = stack.enter_context((folder / "docker-ready").open("wb"))
    docker = debian.command(
        programs.docker, "usr/sbin/docker-proxy", "-proto", "tcp",
        "-host-ip", listen, "-host-port", str(PORTS[DOCKER]),
        "-container-ip", target, "-container-port", str(PORTS[DOCKER]),
    )  # fmt: skip
    _start(stack, folder, host.inside("sh", "-c", f'exec "$@" 3>{ready.name}', "sh", *docker))
    settings = folder / "haproxy.cfg"
    port = PORTS[HAPROXY]
    settings.write_text(
        HAPROXY_SETTINGS.format(listen=f"{listen}:{port}", target=f"{target}:{port}")
    )
    haproxy = debian.command(programs.haproxy, "usr/sbin/haproxy", "-db", "-f", str(settings))
    _start(stack, folder, host.inside(*haproxy))
    return [DOCKER, HAPROXY]


@contextlib.asynccontextmanager
async def _kamal(program: Path, folder: Path, host: NetworkNamespace) -> AsyncIterator[None]:
    """Run kamal-proxy, and let it lead to the server."""
    port = PORTS[KAMAL]
    env = {name: str(folder) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")}
    serve = host.inside(str(program), "run", "--http-port", str(port), "--https-port", "8443")
    deploy = host.inside(
        str(program), "deploy", "page", "--target", f"10.71.1.2:{port}", "--health-check-path", "/"
    )
    with child(serve, what=WHAT, env=env):
        await _listens(host, f"{TRACKED}.1", port)
        await run(*deploy, what=WHAT, env=env)
        yield


def _start(stack: contextlib.AsyncExitStack, folder: Path, command: list[str]) -> None:
    log = stack.enter_context((folder / "log").open("ab"))
    stack.enter_context(child(command, what=WHAT, stderr=log.fileno()))


async def _answers(client: NetworkNamespace, url: str) -> None:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    await _listens(client, host, int(port or 80))


async def _listens(where: NetworkNamespace, host: str, port: int) -> None:
    """Wait until somebody accepts a connection there. Raises Failure."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                with where.entered():
                    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                with one:
                    one.settimeout(0)
                    try:
                        await loop.sock_connect(one, (host, port))
                    except OSError:
                        await asyncio.sleep(0.05)
                    else:
                        return
    except TimeoutError as error:
        why = f"nobody answers at {host} port {port}"
        raise Failure(WHAT, why, "see mizzen doctor") from error
