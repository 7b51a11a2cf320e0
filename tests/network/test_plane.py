"""What the plane makes of a host: at its start, after a crash, under load."""

import asyncio
import threading
from pathlib import Path

import pytest
from netns import Namespace, ask, dial, say
from netplane import BOTH, GATEWAY, HOST, OUTSIDE, Network, forwards, kernel_plane

from mizzen.model.errors import Failure
from mizzen.model.network import Edge, Link, Transport
from mizzen.network.plane import Parts


@pytest.fixture
def web(net: Network) -> Network:
    link = net.machine("web")
    net.service("web", "web", 80)
    net.service("web", "web", 80, udp=True)
    net.publish("web", *forwards(link, 8080, 80))
    return net


def restarted(net: Network) -> None:
    """Let another plane take over, as after a SIGKILL."""

    async def begin() -> None:
        async with kernel_plane() as plane:
            await plane.begin(net.parts)

    net.do(begin())


def setting(where: Namespace, name: str) -> str:
    with where.entered():
        return Path(f"/proc/sys/net/{name}").read_text().strip()


@BOTH
def test_a_new_daemon_carries_on_with_what_was_there(web: Network, v: int) -> None:
    client = dial(web.outside, HOST[v], 8080)
    assert client is not None
    with client:
        assert say(client)
        restarted(web)
        assert say(client)
    assert ask(web.outside, HOST[v], 8080).startswith("web ")


@BOTH
def test_what_somebody_took_away_is_back_after_a_restart(web: Network, v: int) -> None:
    link = web.parts.links[0]
    web.host.show("nft", "flush", "ruleset")
    web.host.ip(
        f"neigh del {link.addresses[v]} dev {link.interface}",
        f"route del {link.addresses[v]} dev {link.interface}",
        f"addr del {GATEWAY[v]}/{(32, 128)[v]} dev {link.interface}",
    )
    restarted(web)
    assert ask(web.outside, HOST[v], 8080).startswith("web ")
    assert ask(web.machines["web"], GATEWAY[v], 8080).startswith("web ")


def test_what_the_database_does_not_know_is_gone_after_a_restart(web: Network) -> None:
    stranger = Link(
        99, "gone", "gone", ("10.77.9.9",), GATEWAY[:1], "02:00:00:00:00:99", outward=True
    )
    namespace = Namespace()
    web.do(web.plane.change(Parts(), Parts((stranger,))))
    web.do(web.plane.open_link(stranger, namespace.descriptor))
    assert stranger.interface in web.do(web.plane.up())
    restarted(web)
    namespace.close()
    assert web.do(web.plane.up()) == {web.parts.links[0].interface}
    assert "10.77.9.9" not in web.host.show("nft", "list", "table", "inet", "mizzen")


@BOTH
def test_udp_follows_what_a_new_daemon_finds_in_its_database(web: Network, v: int) -> None:
    """A switch that was not committed before the daemon died is taken back."""
    other = web.machine("other")
    web.service("other", "other", 80, udp=True)
    web.publish("udp", *forwards(web.parts.links[0], 53, 80, transport=Transport.UDP))
    committed = web.parts
    web.publish("udp", *forwards(other, 53, 80, transport=Transport.UDP))
    client = dial(web.outside, HOST[v], 53, udp=True)
    assert client is not None
    with client:
        assert say(client).startswith("other ")
        web.parts = committed
        restarted(web)
        assert say(client).startswith("web ")


@BOTH
def test_an_edge_that_was_not_committed_ends_with_a_restart(web: Network, v: int) -> None:
    web.machine("other")
    committed = web.parts
    web.allow(Edge("other", "web", Transport.TCP, 80))
    client = dial(web.machines["other"], web.parts.links[0].addresses[v], 80)
    published = dial(web.machines["other"], HOST[v], 8080)
    assert client is not None
    assert published is not None
    with client, published:
        assert say(client)
        assert say(published)
        web.parts = committed
        restarted(web)
        assert not say(client, 0.4)
        assert say(published)


def test_a_restart_under_load_loses_no_packet_and_no_connection(web: Network) -> None:
    stop, answers = threading.Event(), []
    with web.host.entered():  # or the table of connections that each start looks at grows and grows
        name = "netfilter/nf_conntrack_tcp_timeout_time_wait"
        Path(f"/proc/sys/net/{name}").write_text("1")
    clients = [dial(web.outside, HOST[v], 8080) for v in (0, 1)]

    def load() -> None:
        while not stop.is_set():
            for client in clients:
                assert client is not None
                answers.append(say(client))
            answers.extend(ask(web.outside, address, 8080) for address in HOST)

    thread = threading.Thread(target=load)
    thread.start()
    before = retransmitted(web)
    for _ in range(100):
        web.do(web.plane.begin(web.parts))
    stop.set()
    thread.join()
    for client in clients:
        assert client is not None
        client.close()
    assert set(answers) == {f"web {address}" for address in OUTSIDE}
    assert retransmitted(web) == before


def retransmitted(net: Network) -> list[int]:
    """Count segments that had to be sent again, outside and in the machine."""
    counts = []
    for where in (net.outside, net.machines["web"]):
        with where.entered():
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        counts.append(int(values[names.index("RetransSegs")]))
    return counts


def test_a_link_is_made_anew(web: Network) -> None:
    link = web.parts.links[0]
    other = Namespace()
    try:
        web.do(web.plane.open_link(link, other.descriptor))
        assert "eth0" not in web.machines["web"].show("ip", "-br", "link")
        assert link.mac in other.show("ip", "-br", "link", "show", "eth0")
        web.do(web.plane.close_link(link))
        web.do(web.plane.close_link(link))
        assert not web.do(web.plane.up())
    finally:
        other.close()


def test_a_link_that_cannot_be_made_leaves_nothing(net: Network) -> None:
    link = Link(1, "one", "one", ("10.77.0.2",), GATEWAY[:1], "02:00:00:00:00:01")
    taken = Namespace()
    try:
        taken.ip("link add eth0 type veth peer name other")
        with pytest.raises(Failure, match="cannot make the link of machine one: File exists"):
            net.do(net.plane.open_link(link, taken.descriptor))
    finally:
        taken.close()
    assert not net.do(net.plane.up())


def test_a_link_without_ipv6_has_none(net: Network) -> None:
    link = Link(1, "one", "one", ("10.77.0.2",), GATEWAY[:1], "02:00:00:00:00:01")
    namespace = Namespace()
    try:
        net.do(net.plane.change(Parts(), Parts((link,))))
        net.do(net.plane.open_link(link, namespace.descriptor))
        assert setting(net.host, "ipv6/conf/mizzen-1/disable_ipv6") == "1"
    finally:
        namespace.close()


def test_forwarding_is_turned_on_for_the_versions_that_are_used(net: Network) -> None:
    with net.host.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    four = Link(1, "one", "one", ("10.77.0.2",), GATEWAY[:1], "02:00:00:00:00:01")
    net.do(net.plane.begin(Parts()))
    assert setting(net.host, "ipv4/ip_forward") == "0"
    net.do(net.plane.begin(Parts((four,))))
    assert setting(net.host, "ipv4/ip_forward") == "1"
    assert setting(net.host, "ipv6/conf/all/forwarding") == "0"
    assert setting(net.host, "ipv6/conf/up0/accept_ra") == "1"
    net.machine("six")
    assert setting(net.host, "ipv6/conf/all/forwarding") == "1"
    assert setting(net.host, "ipv6/conf/up0/accept_ra") == "2"


def test_a_change_that_is_refused_changes_nothing(web: Network) -> None:
    absent = forwards(web.parts.links[0], 9999, 80)
    link = Link(7, "x", "x", ("10.77.0.7",), GATEWAY[:1], "02:00:00:00:00:07")
    before = web.host.show("nft", "list", "ruleset")
    with pytest.raises(Failure, match="cannot change the network's rules"):
        publication = type(web.parts.publications[0])("absent", absent)
        web.do(web.plane.change(Parts(publications=(publication,)), Parts((link,))))
    assert web.host.show("nft", "list", "ruleset") == before
    assert ask(web.outside, HOST[1], 8080).endswith(OUTSIDE[1])


def test_two_planes_may_be_open_at_once(web: Network) -> None:
    """The old daemon may still be ending when the new one begins."""

    async def both() -> None:
        async with kernel_plane() as first, kernel_plane() as second:
            await asyncio.gather(first.begin(web.parts), second.begin(web.parts))

    web.do(both())
    assert ask(web.outside, HOST[0], 8080).startswith("web ")
