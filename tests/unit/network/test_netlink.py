"""Taking netlink messages apart, whatever they are."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.network import netlink
from mizzen.network.netlink import Message, attribute, attributes, find, messages, nested

CONTENTS = st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=6)


@given(CONTENTS, st.binary(max_size=8))
def test_attributes_come_back(held: dict[int, bytes], before: bytes) -> None:
    data = before + b"".join(attribute(kind, content) for kind, content in held.items())
    assert attributes(data, len(before)) == held
    assert all(find(data, kind, len(before)) == content for kind, content in held.items())
    assert not find(data, 0, len(before))


def test_nested_attributes_are_found_by_their_bare_kind() -> None:
    data = nested(2, attribute(1, b"abc"), nested(3, attribute(4, b"d")))
    assert attributes(attributes(data)[2])[1] == b"abc"
    assert find(find(find(data, 2), 3), 4) == b"d"


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_give_attributes_that_lie_within(data: bytes, start: int) -> None:
    found = attributes(data, start)
    assert sum(map(len, found.values())) <= len(data)
    assert all(content in data for content in found.values())


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=50)), max_size=5))
def test_messages_come_back(sent: list[tuple[int, bytes]]) -> None:
    packet = b""
    for kind, body in sent:
        packet += struct.pack("=IHHII", 16 + len(body), kind, 7, 1, 0) + body
        packet += bytes(-len(packet) % 4)
    assert list(messages(packet)) == [Message(kind, 7, body) for kind, body in sent]


@given(st.binary(max_size=200))
def test_any_bytes_end_the_messages(packet: bytes) -> None:
    assert sum(len(message.body) + 16 for message in messages(packet)) <= len(packet)


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("::1", True), ("203.0.113.77", False), ("2001:db8::77", False)],
)
def test_an_address_of_this_host_is_known_by_its_route(address: str, *, own: bool) -> None:
    assert netlink.is_own(address) is own
