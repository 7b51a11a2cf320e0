"""Who listens on a host already."""

import socket

import pytest
from netns import Namespace
from netplane import HOST, OTHER, Network

from mizzen.model.network import Forward, Transport

TARGET = ("10.77.0.2", "fd77::2")


def holder(net: Network, address: str, v: int, transport: Transport = Transport.TCP) -> str:
    forward = Forward(address, 7000, transport, TARGET[v], 80)
    return net.do(net.plane.holder(forward))


def listen(where: Namespace, address: str, transport: Transport, *, both: bool) -> socket.socket:
    kind = socket.SOCK_STREAM if transport is Transport.TCP else socket.SOCK_DGRAM
    server = where.socket(address, kind)
    if ":" in address:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
    server.bind((address, 7000))
    if transport is Transport.TCP:
        server.listen()
    return server


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize(
    ("bound", "both", "held", "free"),
    [
        ("0.0.0.0", False, [("", 0), (HOST[0], 0), ("127.0.0.1", 0)], [("", 1), (HOST[1], 1)]),
        ("::", True, [("", 0), (HOST[0], 0), ("", 1), (HOST[1], 1)], []),
        ("::", False, [("", 1), (HOST[1], 1)], [("", 0), (HOST[0], 0)]),
        (HOST[0], False, [("", 0), (HOST[0], 0)], [(OTHER[0], 0), ("127.0.0.1", 0), ("", 1)]),
        (HOST[1], True, [("", 1), (HOST[1], 1)], [(OTHER[1], 1), ("", 0)]),
        (f"::ffff:{HOST[0]}", True, [("", 0), (HOST[0], 0)], [(OTHER[0], 0), ("", 1)]),
    ],
)
def test_a_listener_holds_its_port_where_it_listens(
    net: Network,
    transport: Transport,
    bound: str,
    both: bool,
    held: list[tuple[str, int]],
    free: list[tuple[str, int]],
) -> None:
    other = Transport.UDP if transport is Transport.TCP else Transport.TCP
    for address, v in held + free:
        assert not holder(net, address, v, transport)
    with listen(net.host, bound, transport, both=both):
        for address, v in held:
            assert "a process of user root (uid 0), socket " in holder(net, address, v, transport)
            assert not holder(net, address, v, other)
        for address, v in free:
            assert not holder(net, address, v, transport)


def test_a_listener_elsewhere_holds_nothing(net: Network) -> None:
    with listen(net.outside, "0.0.0.0", Transport.TCP, both=False):
        assert not holder(net, "", 0)


def test_a_connection_holds_nothing(net: Network) -> None:
    with listen(net.outside, "0.0.0.0", Transport.TCP, both=False) as server:
        server.settimeout(20)
        with net.host.socket(HOST[0], socket.SOCK_STREAM) as client:
            client.bind((HOST[0], 7000))
            client.connect(("192.0.2.2", 7000))
            assert not holder(net, "", 0)
