"""Unikernels as machines: reached, judged by their console, ended; and packets that mean ill."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import socket
import struct
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import frames
import hello
import pytest
from net_daemon import net_daemon
from netns import Namespace

from mizzen.builders import unikernel
from mizzen.control import links
from mizzen.host.files import sha256
from mizzen.machines.config import ADDRESS
from mizzen.machines.protocol import Connect
from mizzen.model.file import File
from mizzen.model.image import Image
from mizzen.model.machine import Machine, MachineNetwork, MachineSpec, MachineState, Port, joined
from mizzen.network.client import Network

pytestmark = pytest.mark.machine

PREFIX = "10.70.0.0/24"
CONTENT = bytes(range(256)) * 6
AT_HOME = f"--listen={ADDRESS}:80"


@pytest.fixture(scope="module")
def image(tmp_path_factory, folders) -> Image:
    file = hello.build(tmp_path_factory.mktemp("hello") / "source")
    kernel = File(file, sha256(file), file.stat().st_size)
    return asyncio.run(unikernel.image(kernel, "hello", folders))


@pytest.fixture(scope="module")
def start(guests, image):
    """Starts a unikernel with arguments."""

    def start(
        *arguments: str,
        name: str = "",
        network: MachineNetwork | None = None,
        connect: Connect | None = None,
        publish: tuple[Port, ...] = (),
    ) -> Machine:
        spec = MachineSpec(
            name=name or f"hello-{len(guests.started)}-{os.getpid()}",
            reference=image.reference,
            kernel=image.kernel.path,
            initramfs=image.initramfs,
            root=image.root,
            process=image.process,
            memory=16,
            command_line=joined(arguments),
            publish=publish,
            network=network,
        )
        machine = guests.run(spec, connect)
        if not arguments[0].startswith(("--exit", "--fail", "--bogus")):
            guests.wait_line(spec.name, "answers at", console=True)
        return machine

    return start


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_answers_by_user_networking_and_is_a_machine_like_others(guests, start):
    machine = start(AT_HOME, "--name=web", publish=(Port(0, 80),))
    name = machine.spec.name
    url = f"http://127.0.0.1:{machine.ports[0].host}"
    assert get(f"{url}/") == (200, "web 1\n")
    assert get(f"{url}/healthz") == (200, "well\n")
    listed = json.loads(guests.mizzen("machines", "list", "--json").stdout)
    assert [m["state"] for m in listed if m["spec"]["name"] == name] == ["running"]
    shown = guests.mizzen("machines", "show", name).stdout
    assert f"{AT_HOME} --name=web" in shown
    assert "16 MiB, 1 vCPU, tcg" in shown
    assert guests.mizzen("machines", "logs", name).stdout == f"web 1 answers at {ADDRESS}:80\n"
    refused = guests.mizzen("attach", name)
    assert refused.returncode == 1
    assert f"cannot attach to {name}: it is a unikernel" in refused.stderr
    assert "it is a unikernel" in guests.mizzen("inspect", name).stderr
    stopped = guests.mizzen("machines", "stop", name)
    assert stopped.stdout == f"{name} has ended: stopped, as a unikernel is\n", stopped.stderr
    assert guests.registry.find(name).state is MachineState.STOPPED
    assert guests.mizzen("machines", "remove", name).returncode == 0


def test_sick_one_says_so(guests, start):
    machine = start(AT_HOME, "--sick", publish=(Port(0, 80),))
    assert get(f"http://127.0.0.1:{machine.ports[0].host}/healthz") == (503, "sick\n")


@pytest.mark.parametrize(
    ("argument", "state", "status", "reason"),
    [
        ("--exit=0", MachineState.STOPPED, 0, "exited with status 0"),
        ("--exit=3", MachineState.FAILED, 3, "exited with status 3"),
        ("--fail", MachineState.FAILED, 1, "exited with status 1: fatal: exception 6, code 0x0"),
        ("--bogus", MachineState.FAILED, 1, "exited with status 1: fatal: there is an argument"),
    ],
)
def test_its_console_tells_how_it_ended(guests, start, argument, state, status, reason):
    machine = guests.ended(start(argument).spec.name)
    assert (machine.state, machine.status) == (state, status)
    assert machine.reason.startswith(reason)


@pytest.fixture(scope="module")
def wired(guests, start) -> Iterator[tuple[Namespace, Machine]]:
    """A unikernel on a link of its own, and the namespace that has the link's other end."""
    if os.geteuid() != 0:
        pytest.skip("links need root")
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(contextlib.closing(Namespace()))
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        net = stack.enter_context(net_daemon(host, place))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MIZZEN_NET_SOCKET", str(net.path))
        name = f"wired-{os.getpid()}"
        wanted = MachineNetwork((PREFIX,))
        machine = start(
            f"--listen={leased(net, name)}:80",
            name=name,
            network=wanted,
            connect=partial(links.connected, net, name, wanted),
        )
        yield host, machine
        guests.mizzen("machines", "stop", name)
        guests.mizzen("machines", "remove", name)


def leased(net: Network, name: str) -> str:
    """Return the address that a machine of that name gets."""
    return asyncio.run(net.request_address(links.tag(name), PREFIX)).address


def address(machine: Machine) -> str:
    assert machine.spec.network is not None
    return machine.spec.network.addresses[0]


def connected(host: Namespace, machine: Machine, port: int = 80) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(address(machine), port, timeout=30)
    with host.entered():
        connection.connect()
    return connection


def echoed(host: Namespace, target: str, content: bytes) -> bool:
    """Whether a ping with that content comes back."""
    head, again = struct.pack("!HH", 7, 1), struct.pack("!BBH", 0, 0, 0)
    total = frames.checksum(b"\x08\0\0\0" + head + content)
    with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as raw:
        raw.settimeout(30)
        raw.sendto(struct.pack("!BBH", 8, 0, total) + head + content, (target, 0))
        answer = raw.recv(2048)[20:]
    total = frames.checksum(again + head + content)
    return answer == struct.pack("!BBH", 0, 0, total) + head + content


def test_it_answers_at_an_address_of_its_own(wired):
    host, machine = wired
    with contextlib.closing(connected(host, machine)) as connection:
        for path, status in (("/", 200), ("/none", 404), ("/healthz", 200)):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (status, True)
        kept = connection.sock
        connection.request("POST", "/", body=b"x" * 3000)
        assert connection.getresponse().status == 405
        assert connection.sock is not kept, "what is left of a body is no request"
    for size in (0, 1, 1472):
        assert echoed(host, address(machine), CONTENT[:size])
    with pytest.raises(ConnectionRefusedError):
        connected(host, machine, port=81)


def test_many_ask_at_once(wired):
    host, machine = wired
    with contextlib.ExitStack() as stack:
        several = [
            stack.enter_context(contextlib.closing(connected(host, machine))) for _ in range(200)
        ]
        for _ in range(3):
            for connection in several:
                connection.request("GET", "/")
            for connection in several:
                assert connection.getresponse().read() == b"hello 1\n"


def test_it_can_be_a_services_release(guests, wired):
    host, machine = wired
    with host.entered():
        ready = ("--port", "8080:80", "--ready", "http:/healthz")
        added = guests.mizzen("publish", "add", "web", machine.spec.name, *ready)
        assert added.returncode == 0, added.stderr
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello 1\n"
        removed = guests.mizzen("publish", "remove", "web")
        assert removed.returncode == 0, removed.stderr
    assert guests.registry.find(machine.spec.name).state is MachineState.RUNNING


def test_packets_that_mean_ill_change_nothing(wired):
    host, machine = wired
    dice = random.Random(1)
    mac = machine.spec.network.mac
    own = json.loads(host.show("ip", "-j", "link"))
    device = next(link for link in own if link["ifname"].startswith("mizzen-"))
    sender = device["address"]
    with host.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device["ifname"], 0))
        for _ in range(2000):
            content = dice.randbytes(dice.randrange(0, 100))
            kind = dice.choice(
                [
                    frames.ethernet(mac, sender, dice.choice([0x0800, 0x0806, 0x86DD]), content),
                    frames.ip(mac, sender, "10.70.0.1", address(machine), 6, content),
                    frames.ip(mac, sender, "10.70.0.1", address(machine), 1, content),
                    frames.arp(sender, "10.70.0.1", address(machine))[: dice.randrange(14, 42)],
                ]
            )
            raw.send(kind)
    with contextlib.closing(connected(host, machine)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello 1\n"
