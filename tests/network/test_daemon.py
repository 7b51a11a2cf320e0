"""The daemon as a process: what it keeps through its deaths, and what it may do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import DaemonProcess
from netns import PATIENCE, Namespace

import mizzen
from mizzen.model.network import Edge, Forward, Link, Publication, Transport
from mizzen.network.client import Network

NET_ADMIN = 1 << 12


@pytest.fixture
def host() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.close()


@pytest.fixture
def daemon(host: Namespace, tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path)
    yield process
    process.kill()


def start(daemon: DaemonProcess, host: Namespace, *options: str) -> None:
    with host.entered():
        daemon.start(*options)


def table(host: Namespace) -> object:
    """Return the daemon's rules without what the kernel counts."""
    listed = json.loads(host.show("nft", "-j", "list", "table", "inet", "mizzen"))["nftables"]
    told = re.sub(r'"handle": \d+', '"handle": 0', json.dumps(listed[1:]))
    return sorted(json.dumps(_sorted(one), sort_keys=True) for one in json.loads(told))


def _sorted(value: object) -> object:
    """Return a value whose elements, which have no order in the kernel, are in one."""
    if isinstance(value, dict):
        return {key: _sorted(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(one) for one in value), key=json.dumps)
    return value


def interfaces(host: Namespace) -> set[str]:
    listed = json.loads(host.show("ip", "-json", "link"))
    return {one["ifname"] for one in listed} - {"lo"}


async def furnish(network: Network) -> tuple[Link, int]:
    """Make a link, a publication and an edge."""
    await network.request_address("machine:web-1", "10.70.0.0/24")
    await network.request_address("machine:web-1", "fd70::/64")
    link, tap = await network.open_link("web-1", label="web")
    assert tap is not None
    forward = Forward("", 8080, Transport.TCP, link.addresses[0], 80)
    await network.publish([Publication("web", (forward,))])
    await network.allow(Edge("web", "web", Transport.TCP, 5432))
    return link, tap


async def state(network: Network) -> object:
    return (
        [one async for one in network.addresses()],
        [one async for one in network.links()],
        [one async for one in network.publications()],
        [one async for one in network.edges()],
    )


def test_it_keeps_one_capability_and_is_confined(daemon: DaemonProcess, host: Namespace) -> None:
    start(daemon, host)
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    )
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[kind], 16) == NET_ADMIN
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    # All the same it does all it is asked.
    _, tap = asyncio.run(furnish(daemon.network))
    os.close(tap)
    asyncio.run(daemon.network.unpublish("web"))
    asyncio.run(daemon.network.close_link("web-1"))
    assert daemon.stop() == 0
    told = [line for line in daemon.log.splitlines() if "cells" not in line]
    assert [line.partition(" ")[0] for line in told] == ["level=info"] * 2


def test_it_puts_back_the_rules_that_other_software_removes(
    daemon: DaemonProcess, host: Namespace
) -> None:
    start(daemon, host)
    _, tap = asyncio.run(furnish(daemon.network))
    before = table(host)
    assert "ready" in daemon.said()
    for script in ("flush ruleset", "delete table inet mizzen"):
        host.show("nft", script)
        assert "are there again" in daemon.said()
        assert table(host) == before
    os.close(tap)


def test_confined_it_lets_the_next_packet_of_a_flow_follow_a_switch(
    daemon: DaemonProcess, host: Namespace
) -> None:
    start(daemon, host)
    host.ip("addr add 192.0.2.1/32 dev lo")
    network, taps = daemon.network, {}
    with contextlib.closing(host.socket("192.0.2.1", socket.SOCK_DGRAM)) as client:
        client.connect(("192.0.2.1", 53))
        for machine in ("a", "b"):
            lease = asyncio.run(network.request_address(f"machine:{machine}", "10.70.0.0/24"))
            _, taps[machine] = asyncio.run(network.open_link(machine))
            forward = Forward("", 53, Transport.UDP, lease.address, 53)
            asyncio.run(network.publish([Publication("dns", (forward,))]))
            client.send(f"to {machine}".encode())
            assert arrives(taps[machine], f"to {machine}".encode())
    for tap in taps.values():
        os.close(tap)


def arrives(tap: int, payload: bytes) -> bool:
    """Tell whether a frame that ends with a payload comes out of a tap."""
    while select.select([tap], [], [], PATIENCE)[0]:
        if os.read(tap, 65536).endswith(payload):
            return True
    return False


def test_what_it_has_set_up_stays_when_it_is_told_to_end(
    daemon: DaemonProcess, host: Namespace
) -> None:
    start(daemon, host)
    link, tap = asyncio.run(furnish(daemon.network))
    before = table(host)
    assert daemon.folders.network.stat().st_mode & 0o777 == 0o660
    assert daemon.stop() == 0
    assert table(host) == before
    assert interfaces(host) == {link.interface}
    assert not daemon.folders.network.exists()
    os.close(tap)


def test_after_a_sigkill_the_kernel_is_as_the_database_says_both_ways(
    daemon: DaemonProcess, host: Namespace
) -> None:
    start(daemon, host)
    link, tap = asyncio.run(furnish(daemon.network))
    rules, told = table(host), asyncio.run(state(daemon.network))
    daemon.kill()
    host.show("nft", "flush map inet mizzen anywhere4")
    host.show("nft", "add element inet mizzen anywhere4 { tcp . 9 : 10.70.0.9 . 9 }")
    host.show("nft", "add rule inet mizzen to_host accept")
    host.show("nft", "add table inet others { chain one { tcp dport 1 drop; }; }")
    host.ip("link add mizzen-77 type veth peer name mine", "link set mizzen-77 up")
    others = host.show("nft", "list", "table", "inet", "others")
    start(daemon, host)
    assert table(host) == rules
    assert interfaces(host) == {link.interface}
    assert asyncio.run(state(daemon.network)) == told
    assert host.show("nft", "list", "table", "inet", "others") == others
    os.close(tap)


def test_after_a_reboot_all_is_there_again_but_links_of_machines_that_are_gone(
    daemon: DaemonProcess, host: Namespace
) -> None:
    start(daemon, host)
    _, tap = asyncio.run(furnish(daemon.network))
    rules = table(host)
    daemon.kill()
    os.close(tap)
    rebooted = Namespace()
    try:
        start(daemon, rebooted)
        assert table(rebooted) == rules
        assert interfaces(rebooted) == set()
        ((link, up),) = asyncio.run(state(daemon.network))[1]  # type: ignore[index]
        assert (link.machine, up) == ("web-1", False)
    finally:
        daemon.kill()
        rebooted.close()


def test_requests_wait_for_the_daemon_that_comes_after_one_that_was_killed(
    daemon: DaemonProcess, host: Namespace
) -> None:
    start(daemon, host)
    daemon.kill()

    async def ask() -> str:
        asked = asyncio.create_task(daemon.network.request_address("a", "10.70.0.0/24"))
        await asyncio.to_thread(start, daemon, host)
        return (await asked).address

    assert asyncio.run(ask()) == "10.70.0.2"


def test_there_is_one_daemon_to_a_state_and_to_a_socket(
    daemon: DaemonProcess, host: Namespace, tmp_path: Path
) -> None:
    start(daemon, host)
    second = DaemonProcess(tmp_path)
    start(second, host)
    assert second.ended() == 1
    assert f"another one has {daemon.folders.state}" in second.log
    elsewhere = DaemonProcess(tmp_path / "elsewhere")
    start(elsewhere, host, "--socket", str(daemon.folders.network))
    assert elsewhere.ended() == 1
    assert "another one listens" in elsewhere.log
    assert asyncio.run(daemon.network.status()).mode == "kernel"


def test_a_group_that_is_not_there_is_refused(daemon: DaemonProcess, host: Namespace) -> None:
    start(daemon, host, "--group", "no-such-group")
    assert daemon.ended() == 1
    assert "there is no group no-such-group; run: sudo groupadd" in daemon.log


def test_a_group_may_open_the_socket(daemon: DaemonProcess, host: Namespace) -> None:
    start(daemon, host, "--group", "daemon")
    status = daemon.folders.network.stat()
    assert (status.st_gid, status.st_mode & 0o777) == (1, 0o660)


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="no systemd here")
def test_systemd_starts_it_when_somebody_asks(daemon: DaemonProcess, host: Namespace) -> None:
    path = daemon.folders.network
    path.parent.mkdir()
    passed = ["MIZZEN_STATE", "MIZZEN_RUNTIME", "PYTHONPATH"]
    activate = ["systemd-socket-activate", "--seqpacket", "-l", str(path)]
    with host.entered():
        daemon.start(before=[*activate, *(f"-E{name}" for name in passed)])
    assert "Listening on" in daemon.said()
    assert asyncio.run(daemon.network.status()).mode == "kernel"
    assert daemon.stop() == 0
    assert path.exists()  # it is systemd's


def test_the_command_line_asks_for_all_of_it(daemon: DaemonProcess, host: Namespace) -> None:
    start(daemon, host)
    assert "Request one: mizzen ip request" in daemon.mizzen("ip", "list").stdout
    assert "There are no links." in daemon.mizzen("net", "links").stdout
    assert "There are no edges" in daemon.mizzen("net", "edges").stdout
    asked = ["ip", "request", "--tag", "machine:a", "--prefix", "10.70.0.0/24"]
    assert daemon.mizzen(*asked, "--exclude", "10.70.0.2").stdout == "10.70.0.3\n"
    lease = {"address": "10.70.0.3", "tag": "machine:a", "prefix": "10.70.0.0/24"}
    assert daemon.told(*asked) == lease
    assert daemon.told("ip", "list") == [lease]
    assert daemon.mizzen("net", "allow", "a", "b", "53/udp").stdout == "a may reach b at 53/udp\n"
    edge = {"source": "a", "target": "b", "transport": "udp", "port": 53}
    assert daemon.told("net", "edges") == [edge]
    assert "53/udp" in daemon.mizzen("net", "edges").stdout
    assert daemon.mizzen("net", "deny", "a", "b", "x").returncode == 2
    assert daemon.told("net", "deny", "a", "b", "53/udp") == edge
    assert daemon.told("net", "edges") == []
    link, tap = asyncio.run(daemon.network.open_link("a"))
    told = daemon.told("net", "links")
    assert told[0]["interface"] == link.interface == "mizzen-1"
    assert told[0]["up"] is True
    assert "mizzen-1" in daemon.mizzen("net", "links").stdout
    refused = daemon.mizzen("ip", "release", "machine:a")
    assert refused.returncode == 1
    assert "machine a has a link with it" in refused.stderr
    assert tap is not None
    os.close(tap)
    asyncio.run(daemon.network.close_link("a"))
    assert daemon.mizzen("ip", "release", "machine:a").returncode == 0
    assert daemon.told("net", "status") == {
        "is": "status", "mode": "kernel", "version": mizzen.__version__,
        "addresses": 0, "links": 0, "publications": 0, "edges": 0,
    }  # fmt: skip
    assert str(daemon.folders.network) in daemon.mizzen("net", "status").stdout


def test_who_finds_no_daemon_is_told_what_to_run(tmp_path: Path) -> None:
    nobody = DaemonProcess(tmp_path).mizzen("net", "status")
    assert nobody.returncode == 1
    assert "nobody answers" in nobody.stderr
    assert "run: sudo mizzen net daemon" in nobody.stderr
