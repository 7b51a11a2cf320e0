"""Two machines on links of their own: who reaches them, whom they reach, and what stays."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from net_daemon import net_daemon
from netns import Namespace, Service

from mizzen.control import links
from mizzen.host import cpio, process
from mizzen.host.process import ProcessId
from mizzen.model.image import Kernel
from mizzen.model.machine import Machine, MachineNetwork
from mizzen.model.network import Edge, Forward, Link, Publication, Transport
from mizzen.network.client import Network

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="links need root"),
]

PREFIXES = ("10.70.0.0/24", "fd70::/64")
HOST = ("192.0.2.1", "2001:db8::1")
OUTSIDE = ("192.0.2.2", "2001:db8::2")
PUBLISHED = 8080
SECRET = 9000
PATIENCE = 20
"""Seconds for what must come."""

GLANCE = 1
"""Seconds for what must not come; busybox's nc takes whole ones."""

FAMILIES = (0, 1)
"""Index of IPv4 and IPv6 in each pair of addresses."""

SCRIPT = """
echo "I am $(cat /proc/sys/kernel/hostname)" >/index.html
httpd -p '[::]:80' -h / || httpd -p 80 -h /
echo serving
while :; do sleep 1; done
"""

RUN = """#!/bin/sh
echo "Content-Type: text/plain"
echo
ask() { echo question | /bin/busybox nc -w "$3" "$1" "$2" || echo none; }
fetch() {
    printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w "$3" "$1" "$2" | /bin/busybox tail -n 1
}
reach() { /bin/busybox ping -c 1 -W "$2" "$1" >/dev/null && echo answer || echo none; }
eval "$(/bin/busybox httpd -d "$QUERY_STRING")" 2>&1
"""


def get(where: Namespace, address: str, port: int, path: str = "/") -> str:
    """Ask a server from a namespace."""
    connection = http.client.HTTPConnection(address, port, timeout=30)
    with where.entered(), contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode().strip()


@dataclass
class Site:
    """A host with its daemon, an outside, and machines."""

    guests: object
    kernel: Kernel
    net: Network
    host: Namespace
    outside: Namespace

    def start(self, name: str, command_line: str = "") -> Machine:
        wanted = MachineNetwork(PREFIXES)
        extra = (cpio.directory("cgi-bin"), cpio.file("cgi-bin/run", RUN.encode(), 0o755))
        machine = self.guests.start(
            self.kernel,
            SCRIPT,
            name=name,
            extra=extra,
            network=wanted,
            command_line=command_line,
            connect=partial(links.connected, self.net, name, wanted),
        )
        self.guests.wait_line(name, "serving")
        return machine

    def run(self, machine: Machine, command: str) -> str:
        """Run a command in a machine, by way of its web server."""
        path = f"/cgi-bin/run?{urllib.parse.quote(command)}"
        return get(self.host, addresses(machine)[0], 80, path)

    def links(self) -> dict[str, tuple[Link, bool]]:
        async def collect() -> dict[str, tuple[Link, bool]]:
            return {link.machine: (link, up) async for link, up in self.net.links()}

        return asyncio.run(collect())

    def leases(self) -> set[str]:
        async def collect() -> set[str]:
            return {lease.tag async for lease in self.net.addresses()}

        return asyncio.run(collect())


def addresses(machine: Machine) -> tuple[str, ...]:
    assert machine.spec.network is not None
    return machine.spec.network.addresses


@pytest.fixture(scope="module")
def site(guests, bookworm) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        host, outside = (stack.enter_context(contextlib.closing(Namespace())) for _ in range(2))
        host.connect(outside, "up0", "eth0")
        for end, name, own in ((host, "up0", HOST), (outside, "eth0", OUTSIDE)):
            end.ip(
                f"link set {name} up",
                f"addr add {own[0]}/24 dev {name}",
                f"addr add {own[1]}/64 dev {name} nodad",
            )
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(net_daemon(host, place))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MIZZEN_NET_SOCKET", str(net.path))
        yield Site(guests, bookworm, net, host, outside)


@pytest.fixture(scope="module")
def pair(site) -> tuple[Machine, Machine]:
    """Two machines, the first of which is published."""
    first, second = (site.start(f"{name}-{os.getpid()}") for name in ("first", "second"))
    forwards = tuple(
        Forward("", PUBLISHED, Transport.TCP, address, 80) for address in addresses(first)
    )
    asyncio.run(site.net.publish([Publication("first", forwards)]))
    return first, second


@pytest.mark.parametrize("family", FAMILIES)
def test_published_port_answers_outside_on_the_host_and_to_machines(site, pair, family):
    first, second = pair
    hello = f"I am {first.spec.name}"
    assert get(site.outside, HOST[family], PUBLISHED) == hello
    assert get(site.host, HOST[family], PUBLISHED) == hello
    for machine in (second, first):
        assert site.run(machine, f"fetch {HOST[family]} {PUBLISHED} {PATIENCE}") == hello


@pytest.mark.parametrize("family", FAMILIES)
def test_machines_reach_each_other_along_edges_only(site, pair, family):
    first, second = pair
    address = addresses(first)[family]
    hello = f"I am {first.spec.name}"
    fetch, ping = f"fetch {address} 80 {GLANCE}", f"reach {address} {GLANCE}"
    assert hello not in site.run(second, fetch)
    assert site.run(second, ping) == "none"
    assert site.run(first, f"reach {address} {PATIENCE}") == "answer", "to itself it does"
    edge = Edge(second.spec.name, first.spec.name, Transport.TCP, 80)
    asyncio.run(site.net.allow(edge))
    try:
        assert site.run(second, f"fetch {address} 80 {PATIENCE}") == hello
        assert site.run(second, ping) == "none"
    finally:
        asyncio.run(site.net.deny(edge))
    assert hello not in site.run(second, fetch)


@pytest.mark.parametrize("family", FAMILIES)
def test_machine_reaches_outside_and_not_the_hosts_own_services(site, pair, family):
    _, second = pair
    network = second.spec.network
    assert network is not None
    service = Service(site.outside, "outside", SECRET)
    with contextlib.closing(service):
        answer = site.run(second, f"ask {OUTSIDE[family]} {SECRET} {PATIENCE}")
        assert answer == f"outside {HOST[family]}"
    with contextlib.closing(Service(site.host, "host", SECRET)):
        for address in (HOST[family], network.gateways[family]):
            assert "host" not in site.run(second, f"ask {address} {SECRET} {GLANCE}")


def test_machine_is_listed_with_its_addresses(site, pair):
    first, _ = pair
    name = first.spec.name
    listed = json.loads(site.guests.mizzen("machines", "list", "--json").stdout)
    (found,) = [one for one in listed if one["spec"]["name"] == name]
    assert found["spec"]["network"]["addresses"] == list(addresses(first))
    shown = site.guests.mizzen("machines", "show", name).stdout
    assert " ".join(addresses(first)) in shown
    assert site.links()[name][1]


def test_kernel_without_ipv6_gets_ipv4_and_one_warning(site):
    machine = site.start(f"four-{os.getpid()}", "ipv6.disable=1")
    assert get(site.host, addresses(machine)[0], 80) == f"I am {machine.spec.name}"
    said = [line for line in site.guests.lines(machine.spec.name) if "warning" in line]
    assert said == [f"warning: no address {addresses(machine)[1]}/128: this kernel has no IPv6"]


def test_killed_machine_takes_its_tap_with_it_and_starts_again_on_the_same_link(site):
    name = f"third-{os.getpid()}"
    first = site.start(name)
    link, up = site.links()[name]
    assert up
    assert link.interface in site.host.show("ip", "-o", "link")
    process.kill(ProcessId(first.pid, first.pid_start), signal.SIGKILL)
    site.guests.ended(name)
    assert link.interface not in site.host.show("ip", "-o", "link")
    assert site.links()[name] == (link, False)
    site.guests.registry.remove(name)  # what remains of it is its link
    second = site.start(name)
    assert addresses(second) == addresses(first)
    for address in addresses(second):
        assert get(site.host, address, 80) == f"I am {name}"
    process.kill(ProcessId(second.pid, second.pid_start), signal.SIGKILL)
    site.guests.ended(name)
    assert f"machine:{name}" in site.leases()
    removed = site.guests.mizzen("machines", "remove", name)
    assert removed.returncode == 0, removed.stderr
    assert name not in site.links()
    assert f"machine:{name}" not in site.leases()
