"""Frames that a hostile machine may write on its own link."""

import fcntl
import os
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from frames import BROADCAST, Tap, arp, ethernet, icmp6, mac_bytes, neighbour, udp
from netns import GLANCE, PATIENCE, ask
from netplane import BOTH, GATEWAY, HOST, OUTSIDE, Network, forwards

from mizzen.model.network import Edge, Link, Transport
from mizzen.network.links import HOST_MAC

MARK = b"mizzen-was-here"
LAST = b"this-may-pass"


class Taps:
    """Machines evil and victim as taps, and two as a namespace. An edge leads to the victim."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.evil_link = net.machine("evil", tap=True)
        self.victim_link = net.machine("victim", tap=True)
        self.two = net.machine("two")
        net.service("two", "two", 80)
        net.allow(Edge("evil", "victim", Transport.UDP, 90))
        self.evil = Tap(net.taps["evil"])
        self.victim = Tap(net.taps["victim"])

    def datagram(
        self,
        v: int,
        *,
        mac: str = "",
        source: str = "",
        target: str = "",
        to: str = HOST_MAC,
        content: bytes = MARK,
    ) -> bytes:
        return udp(
            to,
            mac or self.evil_link.mac,
            source or self.evil_link.addresses[v],
            target or self.victim_link.addresses[v],
            90,
            content,
        )

    def lead_nowhere(self, v: int, *frames: bytes) -> None:
        """Write frames, and one that may pass: no other comes to the victim before it."""
        for frame in (*frames, self.datagram(v, content=LAST)):
            self.evil.send(frame)
        came = self.victim.until(LAST, PATIENCE)
        assert came
        assert not any(MARK in frame for frame in came)

    def neighbours(self) -> set[str]:
        lines = self.net.host.show("ip", "neigh").splitlines()
        return {line.strip() for line in lines if "mizzen-" in line or "plain" in line}


@pytest.fixture
def taps(net: Network) -> Taps:
    return Taps(net)


@BOTH
def test_a_datagram_along_an_edge_arrives_whoever_wrote_it(taps: Taps, v: int) -> None:
    taps.evil.send(taps.datagram(v))
    frame = taps.victim.sees(MARK, PATIENCE)
    assert frame[:12] == mac_bytes(taps.victim_link.mac) + mac_bytes(HOST_MAC)


@pytest.mark.parametrize("claim", ["mac", "victim", "gateway", "outside", "link-local"])
@BOTH
def test_a_false_sender_is_not_believed(taps: Taps, v: int, claim: str) -> None:
    false = {
        "mac": {"mac": taps.victim_link.mac},
        "victim": {"source": taps.two.addresses[v]},
        "gateway": {"source": GATEWAY[v]},
        "outside": {"source": OUTSIDE[v]},
        "link-local": {"source": ("169.254.1.1", "fe80::ff:fe00:1")[v]},
    }[claim]
    taps.lead_nowhere(v, taps.datagram(v, **false))


@pytest.mark.parametrize("where", ["its MAC", "broadcast", "IPv4 multicast", "IPv6 multicast"])
@BOTH
def test_frames_to_others_stay_on_their_link(taps: Taps, v: int, where: str) -> None:
    to = {
        "its MAC": taps.victim_link.mac,
        "broadcast": BROADCAST,
        "IPv4 multicast": "01:00:5e:00:00:01",
        "IPv6 multicast": "33:33:00:00:00:01",
    }[where]
    group = ("224.0.0.1", "ff02::1")[v]
    targets = (taps.victim_link.addresses[v], group)
    datagrams = (taps.datagram(v, to=to, target=target) for target in targets)
    taps.lead_nowhere(v, *datagrams, ethernet(to, taps.evil_link.mac, 0x88B5, MARK))


def test_broadcasts_to_the_host_lead_nowhere(taps: Taps) -> None:
    targets = ("255.255.255.255", "192.0.2.255", "10.77.255.255")
    taps.lead_nowhere(0, *(taps.datagram(0, to=BROADCAST, target=target) for target in targets))


@BOTH
def test_the_gateway_answers_for_itself(taps: Taps, v: int) -> None:
    ask_gateway(taps, v)
    answer = taps.evil.sees(ip_address(GATEWAY[v]).packed, PATIENCE)
    assert mac_bytes(HOST_MAC) in answer


def ask_gateway(taps: Taps, v: int) -> None:
    mac, own = taps.evil_link.mac, taps.evil_link.addresses[v]
    if v == 0:
        taps.evil.send(arp(mac, own, GATEWAY[0]))
    else:
        group = "ff02::1:ff" + ip_address(GATEWAY[1]).exploded[-7:]
        to = "33:33:ff:" + mac_text(ip_address(GATEWAY[1]).packed[-3:])
        taps.evil.send(neighbour(mac, own, group, GATEWAY[1], solicits=True, to=to))


def mac_text(octets: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in octets)


def test_the_host_answers_for_other_machines_itself(taps: Taps) -> None:
    """A machine that takes its prefix to be on its link gets the host's MAC, never another's."""
    mac, own = taps.evil_link.mac, taps.evil_link.addresses[0]
    victim = taps.victim_link.addresses[0]
    taps.evil.send(arp(mac, own, victim))
    answer = taps.evil.sees(ip_address(victim).packed, PATIENCE)
    assert mac_bytes(HOST_MAC) in answer
    assert mac_bytes(taps.victim_link.mac) not in answer


@pytest.fixture
def plain(net: Network) -> Iterator[Tap]:
    """A tap as one would make it without Mizzen, on a host that believes what it hears there."""
    with net.host.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", b"plain0", 0x5002))
    net.host.ip(
        "link set plain0 up",
        "addr add 10.88.0.1/24 dev plain0",
        "addr add fd88::1/64 dev plain0 nodad",
    )
    yield Tap(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("operation", [1, 2], ids=["request", "reply"])
def test_a_claim_by_arp_changes_nothing(taps: Taps, plain: Tap, operation: int) -> None:
    mac, two = taps.evil_link.mac, taps.two.addresses[0]
    before = taps.neighbours()
    for asked in (GATEWAY[0], two, HOST[0]):
        for claimed in (two, taps.victim_link.addresses[0], OUTSIDE[0], "10.77.99.99", GATEWAY[0]):
            taps.evil.send(arp(mac, claimed, asked, operation=operation))
    ask_gateway(taps, 0)
    assert taps.evil.sees(mac_bytes(HOST_MAC), PATIENCE)  # all that came before has been seen
    assert taps.neighbours() == before
    assert ask(taps.net.host, two, 80).startswith("two ")
    plain.send(arp(mac, "10.88.0.5", "10.88.0.1"))
    assert plain.sees(mac_bytes(mac), PATIENCE)
    assert any(line.startswith("10.88.0.5 ") for line in taps.neighbours() - before)


@pytest.mark.parametrize("solicits", [True, False], ids=["solicitation", "advertisement"])
def test_a_claim_by_neighbour_discovery_changes_nothing(
    taps: Taps, plain: Tap, solicits: bool
) -> None:
    mac, own, two = taps.evil_link.mac, taps.evil_link.addresses[1], taps.two.addresses[1]
    before = taps.neighbours()
    for source in (own, two, OUTSIDE[1], "fd77::9999", "fe80::1234", GATEWAY[1]):
        for about in (two, GATEWAY[1], OUTSIDE[1]):
            for target in (GATEWAY[1], "ff02::1"):
                to = HOST_MAC if target == GATEWAY[1] else "33:33:00:00:00:01"
                frame = neighbour(mac, source, target, about, solicits=solicits, to=to)
                taps.evil.send(frame)
    ask_gateway(taps, 1)
    assert taps.evil.sees(ip_address(GATEWAY[1]).packed, PATIENCE)
    assert taps.neighbours() == before
    assert ask(taps.net.host, two, 80).startswith("two ")
    learn(plain, mac)
    assert any(line.startswith("fd88::5 ") for line in taps.neighbours() - before)


def learn(plain: Tap, mac: str) -> None:
    """Ask a host that believes for its own address, and wait until it has answered.

    It is asked each second, as one that asks does: the address of an interface that is new is not
    there before the kernel has come to look at its carrier.
    """
    for _ in range(int(PATIENCE)):
        plain.send(neighbour(mac, "fd88::5", "fd88::1", "fd88::1", solicits=True, to=BROADCAST))
        if plain.sees(mac_bytes(mac), 1):
            return
    pytest.fail("the host has not answered")


def test_a_router_advertisement_is_not_believed(taps: Taps, plain: Tap) -> None:
    mac, net = taps.evil_link.mac, taps.net
    with net.host.entered():
        Path("/proc/sys/net/ipv6/conf/plain0/accept_ra").write_text("2")

    def advertised(tap: Tap, source: str) -> None:
        router = struct.pack("!II", 0, 0)
        lifetime = 64 << 24 | 1800
        group = "33:33:00:00:00:01"
        tap.send(icmp6(group, mac, source, "ff02::1", 134, lifetime, router))

    advertised(taps.evil, "fe80::ff:fe00:1")
    advertised(taps.evil, taps.evil_link.addresses[1])
    ask_gateway(taps, 1)
    assert taps.evil.sees(ip_address(GATEWAY[1]).packed, PATIENCE)
    assert "default" not in net.host.show("ip", "-6", "route")
    learn(plain, mac)
    advertised(plain, "fe80::ff:fe00:1")
    learn(plain, mac)
    assert "default via fe80::ff:fe00:1 dev plain0" in net.host.show("ip", "-6", "route")


def test_a_machine_on_a_tap_is_published_too(taps: Taps) -> None:
    link: Link = taps.victim_link
    taps.net.publish("victim", *forwards(link, 53, 90, transport=Transport.UDP))
    assert not ask(taps.net.outside, HOST[0], 53, udp=True, patience=GLANCE)
    assert taps.victim.sees(b"?", PATIENCE)
