"""Ports of the host that lead to machines, tried from everywhere."""

import socket

import pytest
from netns import GLANCE, PATIENCE, Namespace, ask, dial, say
from netplane import BOTH, GATEWAY, HOST, OTHER, OUTSIDE, Network, forwards

from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Publication, Transport
from mizzen.network import conntrack, netlink
from mizzen.network.plane import Parts

CTA_TIMEOUT, TIME_WAIT = 7, 7


@pytest.fixture
def web(net: Network) -> Network:
    """Two machines that serve port 80, and port 8080 that leads to the first."""
    for name in ("one", "two"):
        net.machine(name)
        net.service(name, name, 80)
        net.service(name, name, 80, udp=True)
    net.publish("web", *forwards(net.parts.links[0], 8080, 80))
    return net


def to_second(net: Network, port: int = 8080, **options: Transport) -> None:
    net.publish("web", *forwards(net.parts.links[1], port, 80, **options))


@BOTH
def test_outside_reaches_the_machine_and_is_seen_as_itself(web: Network, v: int) -> None:
    assert ask(web.outside, HOST[v], 8080) == f"one {OUTSIDE[v]}"


@BOTH
def test_the_host_reaches_it_at_its_own_addresses(web: Network, v: int) -> None:
    for address in (HOST[v], OTHER[v], GATEWAY[v]):
        assert ask(web.host, address, 8080).startswith("one ")


def test_the_host_reaches_it_at_loopback(web: Network) -> None:
    assert ask(web.host, "127.0.0.1", 8080) == f"one {GATEWAY[0]}"


@BOTH
def test_another_machine_reaches_it_and_is_seen_as_itself(web: Network, v: int) -> None:
    own = web.parts.links[1].addresses[v]
    for address in (HOST[v], GATEWAY[v]):
        assert ask(web.machines["two"], address, 8080) == f"one {own}"


@BOTH
def test_a_machine_reaches_itself(web: Network, v: int) -> None:
    assert ask(web.machines["one"], HOST[v], 8080) == f"one {GATEWAY[v]}"


@BOTH
def test_ports_that_are_not_published_lead_nowhere(web: Network, v: int) -> None:
    assert not ask(web.outside, HOST[v], 80)
    web.publish("web", *forwards(web.parts.links[0], 80, 80))
    assert ask(web.outside, HOST[v], 80)


@BOTH
def test_a_publication_is_taken_back(web: Network, v: int) -> None:
    assert ask(web.outside, HOST[v], 8080)
    web.publish("web")
    assert not ask(web.outside, HOST[v], 8080)


@BOTH
def test_only_the_chosen_address_of_the_host_leads_there(web: Network, v: int) -> None:
    target = web.parts.links[1].addresses[v]
    web.publish("chosen", Forward(OTHER[v], 9000, Transport.TCP, target, 80))
    assert ask(web.outside, OTHER[v], 9000).startswith("two ")
    assert not ask(web.outside, HOST[v], 9000)
    assert not ask(web.host, GATEWAY[v], 9000)


def test_a_port_published_at_loopback_is_the_hosts_alone(web: Network) -> None:
    target = web.parts.links[0].addresses[0]
    web.publish("own", Forward("127.0.0.1", 9000, Transport.TCP, target, 80))
    assert ask(web.host, "127.0.0.1", 9000).startswith("one ")
    assert not ask(web.outside, HOST[0], 9000)


@BOTH
def test_connections_stay_and_new_ones_follow_a_switch(web: Network, v: int) -> None:
    client = dial(web.outside, HOST[v], 8080)
    assert client is not None
    with client:
        assert say(client).startswith("one ")
        to_second(web)
        assert say(client).startswith("one ")
        assert ask(web.outside, HOST[v], 8080).startswith("two ")


def ended(net: Network, where: Namespace, address: str, port: int, machine: str) -> int:
    """Let a machine end a connection, and return the client's port, which is free then."""
    link = next(link for link in net.parts.links if link.machine == machine)
    v = int(":" in address)
    with net.machines[machine].socket(address, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((link.addresses[v], 81))
        server.listen()
        server.settimeout(PATIENCE)
        client = dial(where, address, port)
        assert client is not None
        server.accept()[0].close()
        own: int = client.getsockname()[1]
        with client:
            assert client.recv(1) == b""
    while own not in resting(net):
        assert own in {flow.original.source_port for flow in net.flows()}
    return own


def resting(net: Network) -> dict[int, int]:
    """Return how many seconds the entries in TIME_WAIT have left, by their clients' ports."""

    async def every() -> dict[int, int]:
        entries = [one async for one in netlink.dump(netlink.NETFILTER, conntrack.GET, bytes(4))]
        flows = [(conntrack.decode(one), netlink.find(one, CTA_TIMEOUT, 4)) for one in entries]
        return {
            flow.original.source_port: int.from_bytes(left, "big")
            for flow, left in flows
            if flow is not None and flow.state == TIME_WAIT
        }

    return net.do(every())


@BOTH
def test_what_is_left_of_published_connections_goes_soon_and_of_others_as_ever(
    web: Network, v: int
) -> None:
    one = web.parts.links[0].addresses[v]
    web.publish("ending", *forwards(web.parts.links[0], 8081, 81))
    for where in (web.outside, web.host, web.machines["two"]):
        own = ended(web, where, HOST[v], 8081, "one")
        assert 0 < resting(web)[own] <= 10
    own = ended(web, web.host, one, 81, "one")
    assert resting(web)[own] > 10


@BOTH
def test_a_clients_port_that_is_used_again_follows_a_switch(web: Network, v: int) -> None:
    """The entry of its earlier connection is there still."""
    one, two = web.parts.links
    web.publish("ending", *forwards(one, 8081, 81))
    own = ended(web, web.outside, HOST[v], 8081, "one")
    web.publish("ending", *forwards(two, 8081, 80))
    with web.outside.socket(HOST[v], socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        client.bind((OUTSIDE[v], own))
        assert own in resting(web)
        client.connect((HOST[v], 8081))
        assert say(client).startswith("two ")
        web.do(web.plane.forget(one.addresses))
        assert say(client).startswith("two ")


@pytest.mark.parametrize("source", ["outside", "host", "two"])
@BOTH
def test_a_udp_flow_follows_a_switch_with_its_next_packet(
    web: Network, v: int, source: str
) -> None:
    web.publish("web", *forwards(web.parts.links[0], 53, 80, transport=Transport.UDP))
    where = {"outside": web.outside, "host": web.host, **web.machines}[source]
    client = dial(where, HOST[v], 53, udp=True)
    assert client is not None
    with client:
        for name in ("one", "two", "one"):
            link = next(link for link in web.parts.links if link.machine == name)
            web.publish("web", *forwards(link, 53, 80, transport=Transport.UDP))
            assert say(client).startswith(f"{name} ")


@BOTH
def test_an_answer_that_comes_late_does_not_hold_a_udp_flow_back(web: Network, v: int) -> None:
    one, two = web.parts.links
    web.publish("web", *forwards(one, 90, 90, transport=Transport.UDP))
    with (
        web.outside.socket(HOST[v], socket.SOCK_DGRAM) as client,
        web.machines["one"].socket(HOST[v], socket.SOCK_DGRAM) as old,
        web.machines["two"].socket(HOST[v], socket.SOCK_DGRAM) as new,
    ):
        for server, link in ((old, one), (new, two)):
            server.bind((link.addresses[v], 90))
            server.settimeout(PATIENCE)
        client.connect((HOST[v], 90))
        client.send(b"before")
        asked, who = old.recvfrom(100)
        assert asked == b"before"
        web.publish("web", *forwards(two, 90, 90, transport=Transport.UDP))
        old.sendto(b"late", who)
        client.send(b"after")
        assert new.recvfrom(100)[0] == b"after"


@BOTH
def test_a_udp_flow_that_asked_too_early_finds_the_publication(web: Network, v: int) -> None:
    client = dial(web.outside, HOST[v], 53, udp=True)
    assert client is not None
    with client:
        assert not say(client, GLANCE)
        web.publish("web", *forwards(web.parts.links[0], 53, 80, transport=Transport.UDP))
        assert say(client).startswith("one ")


@BOTH
def test_a_udp_flow_ends_with_its_publication(web: Network, v: int) -> None:
    web.publish("web", *forwards(web.parts.links[0], 53, 80, transport=Transport.UDP))
    client = dial(web.outside, HOST[v], 53, udp=True)
    assert client is not None
    with client:
        assert say(client)
        web.publish("web")
        assert not say(client, GLANCE)


@BOTH
def test_udp_flows_of_other_services_are_left_alone(web: Network, v: int) -> None:
    web.service(web.host, "host", 54, udp=True)
    with_host = dial(web.outside, HOST[v], 54, udp=True)
    assert with_host is not None
    with with_host:
        assert say(with_host).startswith("host ")
        web.publish("web", *forwards(web.parts.links[0], 53, 80, transport=Transport.UDP))
        port = with_host.getsockname()[1]
        assert port in {flow.original.source_port for flow in web.flows()}


@BOTH
def test_a_large_datagram_arrives_in_fragments(web: Network, v: int) -> None:
    web.publish("web", *forwards(web.parts.links[0], 53, 80, transport=Transport.UDP))
    client = dial(web.machines["two"], HOST[v], 53, udp=True)
    assert client is not None
    with client:
        assert say(client, what=bytes(9000)).startswith("one ")


def test_two_publications_switch_at_one_instant(web: Network) -> None:
    """A switch whose second half is impossible does not do the first half."""
    two = web.parts.links[1].addresses[0]
    held = Publication("taken", (Forward("", 9000, Transport.TCP, two, 80),))
    web.change(Parts(), Parts(publications=(held,)))
    other = Publication("other", (Forward("", 9000, Transport.TCP, "10.77.0.200", 80),))
    first = next(one for one in web.parts.publications if one.name == "web")
    second = Publication("web", forwards(web.parts.links[1], 8080, 80))
    with pytest.raises(Failure, match="cannot change the network's rules"):
        web.change(Parts(publications=(first,)), Parts(publications=(second, other)))
    assert ask(web.outside, HOST[0], 8080).startswith("one ")
    web.change(Parts(publications=(first, held)), Parts(publications=(second,)))
    assert ask(web.outside, HOST[0], 8080).startswith("two ")
    assert not ask(web.outside, HOST[0], 9000)


@BOTH
def test_a_target_that_is_no_machine_is_reached_too(web: Network, v: int) -> None:
    far = Namespace()
    try:
        web.host.connect(far, "far0", "eth0")
        net, bits = (("198.51.100.", 24), ("2001:db8:1::", 64))[v]
        nodad = "nodad" if v else ""
        web.host.ip("link set far0 up", f"addr add {net}1/{bits} dev far0 {nodad}")
        far.ip(
            "link set eth0 up",
            f"addr add {net}2/{bits} dev eth0 {nodad}",
            f"route add default via {net}1",
        )
        web.service(far, "far", 80)
        # For others' packets the kernel asks for a neighbour only from a link-local address, which
        # takes up to 2 s to come, and gives up after 3; for its own, from the address they carry.
        assert ask(web.host, f"{net}2", 80) == f"far {net}1"
        web.publish("web", Forward("", 8080, Transport.TCP, f"{net}2", 80))
        assert ask(web.outside, HOST[v], 8080) == f"far {OUTSIDE[v]}"
        assert ask(web.machines["one"], HOST[v], 8080) == "far " + f"{net}1"
    finally:
        web.publish("web")
        far.close()
