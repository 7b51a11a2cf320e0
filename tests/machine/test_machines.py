from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from pathlib import Path

import pytest

from mizzen.host import sockets
from mizzen.machines.control import command
from mizzen.machines.qemu.driver import UIDS
from mizzen.model.machine import MachineState, Port

pytestmark = pytest.mark.machine

SERVER = r"""
trap 'echo stopping; exit 0' TERM
echo 'hello from a guest' >/index.html
httpd -p 80 -h /
(read line </dev/ttyS0; echo "console said $line"; echo "answer to $line" >/dev/ttyS0) &
echo serving
echo trouble >&2
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def server(guests, bookworm):
    """A machine that serves HTTP and reads its console."""
    machine = guests.start(bookworm, SERVER, publish=(Port(0, 80),))
    guests.wait_line(machine.spec.name, "serving")
    return machine


def test_published_port_answers(server):
    (port,) = server.ports
    assert port.guest == 80
    with urllib.request.urlopen(f"http://127.0.0.1:{port.host}/", timeout=30) as answer:
        assert answer.read() == b"hello from a guest\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives QEMU a user of its own")
def test_vmm_has_no_rights_and_its_memory_can_be_mapped(server):
    status = Path(f"/proc/{server.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(uid) for uid in fields["Uid"].split()} & set(UIDS)
    assert int(fields["CapEff"], 16) == 0
    assert fields["Seccomp"].strip() == "2"
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    (ram,) = [line for line in maps.splitlines() if f"/memfd:mizzen-{server.spec.name}" in line]
    first, last = (int(word, 16) for word in ram.split()[0].split("-"))
    assert last - first == server.spec.memory << 20
    with Path(f"/proc/{server.pid}/mem").open("rb") as memory:
        memory.seek(first)
        assert len(memory.read(4096)) == 4096


def test_console_works_both_ways(guests, server):
    name = server.spec.name
    with sockets.connect(guests.registry.files(name).console_socket) as console:
        console.settimeout(60)
        console.sendall(b"knock\n")
        guests.wait_line(name, "console said knock")
        heard = b""
        while b"answer to knock" not in heard:
            data = console.recv(4096)
            assert data
            heard += data
    assert "answer to knock" in guests.console(name), "the console is logged meanwhile"


def test_control_port_refuses_what_it_does_not_know(guests, server):
    files = guests.registry.files(server.spec.name)
    assert asyncio.run(command(files, "dance", 30)) == "error unknown command"
    assert asyncio.run(command(files, "signal NONE", 30)) == "error unknown signal"
    assert asyncio.run(command(files, "signal CONT", 30)) == "ok"


def test_command_line_finds_reads_and_stops_it(guests, server):
    name = server.spec.name
    listed = json.loads(guests.mizzen("machines", "list", "--json").stdout)
    assert [m["state"] for m in listed if m["spec"]["name"] == name] == ["running"]
    assert name in guests.mizzen("machines", "list").stdout
    assert "192 MiB, 1 vCPU, tcg" in guests.mizzen("machines", "show", name).stdout
    log = guests.mizzen("machines", "logs", name, "--json").stdout
    records = [json.loads(line) for line in log.splitlines()]
    assert ("stderr", "trouble") in {(record["stream"], record["text"]) for record in records}
    console = json.loads(guests.mizzen("machines", "console", name, "--json").stdout)
    assert console["socket"] == str(guests.registry.files(name).console_socket)
    refused = guests.mizzen("machines", "remove", name)
    assert refused.returncode == 1
    assert f"cannot remove machine {name}: it runs; stop it first" in refused.stderr
    stopped = guests.mizzen("machines", "stop", name)
    assert stopped.stdout == f"{name} has ended: exited with status 0\n", stopped.stderr
    machine = guests.registry.find(name)
    assert (machine.state, machine.status) == (MachineState.STOPPED, 0)
    followed = guests.mizzen("machines", "logs", "-f", name)
    assert followed.stdout.splitlines()[-2:] == ["stopping", "exited status=0"]
    again = guests.mizzen("machines", "stop", name)
    assert again.returncode == 1
    assert len(again.stderr.splitlines()) == 1
