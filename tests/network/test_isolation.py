"""What machines reach and who reaches them, by trying; each refusal beside what is allowed."""

import socket
from pathlib import Path

import pytest
from netns import GLANCE, PATIENCE, Namespace, Service, ask, dial, say
from netplane import BOTH, GATEWAY, HOST, OTHER, OUTSIDE, Network, forwards

from mizzen.model.network import Edge, Forward, Transport
from mizzen.network.plane import Parts

ONE_TO_TWO = Edge("one", "two", Transport.TCP, 80)


@pytest.fixture
def pair(net: Network) -> Network:
    """Machines one and two, and fork, which may not go out; all serve ports 80 and 81."""
    for name in ("one", "two", "fork"):
        net.machine(name, outward=name != "fork")
        for port in (80, 81):
            net.service(name, name, port)
            net.service(name, name, port, udp=True)
    return net


def address(net: Network, machine: str, v: int) -> str:
    return next(link for link in net.parts.links if link.machine == machine).addresses[v]


def reaches(where: Namespace, target: str, port: int = 80, *, udp: bool = False) -> bool:
    return bool(ask(where, target, port, udp=udp, patience=GLANCE))


def may_reach(where: Namespace, target: str, port: int = 80, *, udp: bool = False) -> bool:
    return bool(ask(where, target, port, udp=udp, patience=PATIENCE))


@pytest.mark.parametrize("udp", [False, True], ids=["TCP", "UDP"])
@BOTH
def test_machines_reach_each_other_only_along_an_edge(pair: Network, v: int, udp: bool) -> None:
    one, two = pair.machines["one"], pair.machines["two"]
    assert not reaches(one, address(pair, "two", v), udp=udp)
    assert not reaches(two, address(pair, "one", v), udp=udp)
    pair.allow(Edge("one", "two", Transport.UDP if udp else Transport.TCP, 80))
    assert may_reach(one, address(pair, "two", v), udp=udp)
    assert not reaches(two, address(pair, "one", v), udp=udp)
    assert not reaches(one, address(pair, "two", v), 81, udp=udp)
    assert not reaches(one, address(pair, "two", v), udp=not udp)
    assert not reaches(pair.machines["fork"], address(pair, "two", v), udp=udp)


@BOTH
def test_a_machine_along_an_edge_is_seen_as_itself(pair: Network, v: int) -> None:
    pair.allow(ONE_TO_TWO)
    answer = ask(pair.machines["one"], address(pair, "two", v), 80)
    assert answer == f"two {address(pair, 'one', v)}"


@BOTH
def test_an_edge_taken_back_ends_its_connections(pair: Network, v: int) -> None:
    pair.allow(ONE_TO_TWO)
    client = dial(pair.machines["one"], address(pair, "two", v), 80)
    assert client is not None
    with client:
        assert say(client)
        pair.deny(ONE_TO_TWO)
        assert not say(client, GLANCE)
        assert not reaches(pair.machines["one"], address(pair, "two", v))


@BOTH
def test_a_udp_flow_ends_with_its_edge(pair: Network, v: int) -> None:
    edge = Edge("one", "two", Transport.UDP, 80)
    pair.allow(edge)
    client = dial(pair.machines["one"], address(pair, "two", v), 80, udp=True)
    assert client is not None
    with client:
        assert say(client)
        pair.deny(edge)
        assert not say(client, GLANCE)


@BOTH
def test_an_edge_of_a_label_is_every_machines_of_it(net: Network, v: int) -> None:
    for name, label in (("web-1", "web"), ("web-2", "web"), ("db-1", "db")):
        net.machine(name, label=label)
        net.service(name, name, 80)
    net.allow(Edge("web", "db", Transport.TCP, 80))
    for name in ("web-1", "web-2"):
        assert may_reach(net.machines[name], address(net, "db-1", v))
    assert not reaches(net.machines["web-1"], address(net, "web-2", v))


@BOTH
def test_machines_do_not_reach_the_hosts_services(pair: Network, v: int) -> None:
    pair.service(pair.host, "host", 22)
    pair.service(pair.host, "host", 22, udp=True)
    machine = pair.machines["one"]
    for own in (HOST[v], OTHER[v], GATEWAY[v]):
        assert not reaches(machine, own, 22)
        assert not reaches(machine, own, 22, udp=True)
        assert may_reach(pair.host, own, 22)
    assert may_reach(pair.outside, HOST[v], 22)


def test_machines_do_not_reach_the_hosts_loopback(pair: Network) -> None:
    """127.0.0.1 by way of the gateway, which the host would take as route_localnet is set."""
    machine = pair.machines["one"]
    machine.ip(
        "addr del 127.0.0.1/8 dev lo",
        f"route add 127.0.0.0/8 via {GATEWAY[0]} dev eth0 onlink src {address(pair, 'one', 0)}",
    )
    for name in ("eth0", "all"):
        with machine.entered():
            Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1")
    pair.service(pair.host, "host", 22, udp=True)
    target = Forward("127.0.0.1", 53, Transport.UDP, address(pair, "two", 0), 80)
    pair.publish("own", target)
    for port in (22, 53):
        seen = packets(pair, "mizzen-1")
        assert not reaches(machine, "127.0.0.1", port, udp=True)
        assert packets(pair, "mizzen-1") > seen  # it did arrive at the host
        assert may_reach(pair.host, "127.0.0.1", port, udp=True)


def packets(net: Network, interface: str) -> int:
    with net.host.entered():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    line = next(line for line in lines if line.strip().startswith(f"{interface}:"))
    return int(line.split()[2])


@BOTH
def test_machines_reach_only_published_ports_of_other_services(pair: Network, v: int) -> None:
    two = next(link for link in pair.parts.links if link.machine == "two")
    pair.publish("two", *forwards(two, 8080, 80))
    machine = pair.machines["one"]
    assert may_reach(machine, HOST[v], 8080)
    assert not reaches(machine, HOST[v], 81)
    assert not reaches(machine, address(pair, "two", v), 80)
    assert not reaches(machine, address(pair, "two", v), 8080)


@BOTH
def test_outside_reaches_no_machine_directly(pair: Network, v: int) -> None:
    target = address(pair, "one", v)
    before = packets(pair, "up0")
    assert not reaches(pair.outside, target)
    assert not reaches(pair.outside, target, udp=True)
    assert packets(pair, "up0") > before  # its packets did arrive at the host
    assert may_reach(pair.host, target)
    pair.publish("one", *forwards(pair.parts.links[0], 8080, 80))
    assert may_reach(pair.outside, HOST[v], 8080)
    assert not reaches(pair.outside, target)


@BOTH
def test_machines_reach_the_outside_by_the_hosts_address(pair: Network, v: int) -> None:
    pair.service(pair.outside, "outside", 80)
    assert ask(pair.machines["one"], OUTSIDE[v], 80) == f"outside {HOST[v]}"


@BOTH
def test_a_machine_without_a_way_out_reaches_nothing(pair: Network, v: int) -> None:
    pair.service(pair.outside, "outside", 80)
    pair.service(pair.outside, "outside", 80, udp=True)
    pair.publish("one", *forwards(pair.parts.links[0], 8080, 80))
    for udp in (False, True):
        assert not reaches(pair.machines["fork"], OUTSIDE[v], udp=udp)
        assert may_reach(pair.machines["two"], OUTSIDE[v], udp=udp)
    assert not reaches(pair.machines["fork"], HOST[v], 8080)
    assert may_reach(pair.machines["two"], HOST[v], 8080)
    assert not reaches(pair.machines["fork"], address(pair, "one", v))


@BOTH
def test_a_machine_without_a_way_out_answers_along_edges_and_to_the_host(
    pair: Network, v: int
) -> None:
    target = address(pair, "fork", v)
    assert may_reach(pair.host, target)
    assert not reaches(pair.machines["one"], target)
    assert not reaches(pair.outside, target)
    pair.allow(Edge("one", "fork", Transport.TCP, 80))
    assert may_reach(pair.machines["one"], target)
    assert not reaches(pair.machines["fork"], address(pair, "one", v))
    pair.allow(Edge("fork", "two", Transport.TCP, 80))
    assert may_reach(pair.machines["fork"], address(pair, "two", v))


@BOTH
def test_a_machine_may_see_whether_its_gateway_is_there(pair: Network, v: int) -> None:
    machine = pair.machines["one"]
    assert echoes(machine, GATEWAY[v], PATIENCE)
    assert not echoes(machine, HOST[v], GLANCE)
    assert not echoes(machine, address(pair, "two", v), GLANCE)
    assert echoes(pair.host, address(pair, "two", v), PATIENCE)


def echoes(where: Namespace, target: str, patience: float) -> bool:
    """Send an ICMP echo request and tell whether it is answered."""
    family, protocol, kind = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128)
        if ":" in target
        else (socket.AF_INET, socket.IPPROTO_ICMP, 8)
    )
    with where.entered():
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
        probe = socket.socket(family, socket.SOCK_DGRAM, protocol)
    with probe:
        probe.settimeout(patience)
        try:
            probe.connect((target, 0))
            probe.send(bytes([kind, 0, 0, 0, 0, 1, 0, 1]))
            return bool(probe.recv(4096))
        except OSError:
            return False


@pytest.mark.parametrize("false", ["another machine", "gateway", "outside", "host"])
@BOTH
def test_a_false_source_address_is_not_believed(pair: Network, v: int, false: str) -> None:
    """One pretends to be somebody else towards two, who would be answered if it were believed."""
    claimed = {
        "another machine": address(pair, "fork", v),
        "gateway": GATEWAY[v],
        "outside": ("198.51.100.7", "2001:db8:5::7")[v],
        "host": HOST[v],
    }[false]
    pair.allow(Edge("one", "two", Transport.UDP, 90))
    pair.allow(Edge("fork", "two", Transport.UDP, 90))
    heard = Service(pair.machines["two"], "two", 90, udp=True)
    try:
        machine = pair.machines["one"]
        bits = (32, 128)[v]
        machine.ip(f"addr add {claimed}/{bits} dev lo {'nodad' if v else ''}")
        target = address(pair, "two", v)
        assert not ask(machine, target, 90, udp=True, source=claimed, patience=GLANCE)
        assert heard.served == 0
        own = address(pair, "one", v)
        assert ask(machine, target, 90, udp=True, source=own)
        assert heard.served == 1
    finally:
        heard.close()


@BOTH
def test_a_false_mac_is_not_believed(pair: Network, v: int) -> None:
    machine = pair.machines["one"]
    pair.allow(Edge("one", "two", Transport.UDP, 80))
    target = address(pair, "two", v)
    assert ask(machine, target, 80, udp=True)
    route = f"route replace default via {GATEWAY[v]} dev eth0 onlink"
    machine.ip("link set eth0 address 02:00:00:00:00:02", route)
    assert not reaches(machine, target, udp=True)
    machine.ip("link set eth0 address 02:00:00:00:00:01", route)
    assert ask(machine, target, 80, udp=True)


@BOTH
def test_a_false_source_is_answered_by_nobody_on_the_host(pair: Network, v: int) -> None:
    """Pretending to be outside, a packet would reach a publication with the reply going there."""
    pair.publish("two", *forwards(pair.parts.links[1], 53, 80, transport=Transport.UDP))
    machine = pair.machines["fork"]
    machine.ip(f"addr add {OUTSIDE[v]}/{(32, 128)[v]} dev lo {'nodad' if v else ''}")
    assert not ask(machine, HOST[v], 53, udp=True, source=OUTSIDE[v], patience=GLANCE)
    claimed = {flow.original.source for flow in pair.flows()}
    assert OUTSIDE[v] not in claimed
    assert ask(pair.outside, HOST[v], 53, udp=True)
    assert OUTSIDE[v] in {flow.original.source for flow in pair.flows()}


@BOTH
def test_forgotten_addresses_connections_end(pair: Network, v: int) -> None:
    pair.publish("one", *forwards(pair.parts.links[0], 8080, 80))
    client = dial(pair.outside, HOST[v], 8080)
    assert client is not None
    with client:
        assert say(client)
        pair.publish("one", *forwards(pair.parts.links[1], 8080, 80))
        assert say(client)
        pair.do(pair.plane.forget((address(pair, "one", v),)))
        assert not say(client, GLANCE)  # the new target knows no such connection and resets it
    assert address(pair, "one", v) not in {flow.reply.source for flow in pair.flows()}


def test_other_tables_are_left_alone(net: Network) -> None:
    net.host.show("nft", "add table inet other { chain c { type filter hook input priority 0; }; }")
    before = net.host.show("nft", "list", "table", "inet", "other")
    net.machine("one")
    net.do(net.plane.begin(net.parts))
    net.do(net.plane.begin(Parts()))
    assert net.host.show("nft", "list", "table", "inet", "other") == before
