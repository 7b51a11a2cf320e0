"""Taking entries of the kernel's table of connections apart."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from mizzen.network.conntrack import Flow, Way, decode
from mizzen.network.netlink import attribute, nested

PORTS = st.integers(1, 65535)
ADDRESSES = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)


def way(told: Way) -> bytes:
    packed = [ip_address(address).packed for address in (told.source, told.destination)]
    kinds = (1, 2) if len(packed[0]) == 4 else (3, 4)
    return nested(
        1, *(attribute(kind, one) for kind, one in zip(kinds, packed, strict=True))
    ) + nested(
        2,
        attribute(1, bytes([told.protocol])),
        attribute(2, told.source_port.to_bytes(2, "big")),
        attribute(3, told.destination_port.to_bytes(2, "big")),
    )


def entry(original: Way, reply: Way, status: int, state: int | None) -> bytes:
    parts = [
        nested(1, way(original)),
        nested(2, way(reply)),
        attribute(3, status.to_bytes(4, "big")),
    ]
    if state is not None:
        parts.append(nested(4, nested(1, attribute(1, bytes([state])))))
    parts.append(attribute(12, b"\1\2\3\4"))
    return bytes([2, 0, 0, 0]) + b"".join(parts)


@given(ADDRESSES, st.data(), PORTS, PORTS, st.sampled_from([6, 17]), st.none() | st.integers(0, 9))
def test_an_entry_is_read_whole(
    source: str, data: st.DataObject, port: int, target_port: int, protocol: int, state: int | None
) -> None:
    family = st.ip_addresses(v=ip_address(source).version).map(str)
    host, target = data.draw(family), data.draw(family)
    original = Way(source, port, host, 8080, protocol)
    reply = Way(target, target_port, source, port, protocol)
    found = decode(entry(original, reply, 0x20, state))
    assert found is not None
    assert [ip_address(one) for one in found.original[:3:2]] == [
        ip_address(source),
        ip_address(host),
    ]
    assert found.original[1::2] == original[1::2]
    assert ip_address(found.reply.source) == ip_address(target)
    assert (found.reply.source_port, found.state) == (target_port, state)
    assert found.published


def test_what_was_translated_is_told_by_the_status() -> None:
    one = Way("10.0.0.1", 1, "10.0.0.2", 2, 6)
    assert [Flow(one, one, status, None, b"").published for status in (0, 0x10, 0x20, 0x30)] == [
        False,
        False,
        True,
        True,
    ]


def test_an_entry_is_named_by_where_it_leads_and_its_number() -> None:
    """Its original and its number may be another's, made of a client's port that is used again."""
    one, other = Way("10.0.0.1", 1, "10.0.0.2", 2, 6), Way("10.0.0.1", 3, "10.0.0.2", 2, 6)
    first, again = (decode(entry(one, one, 0, state)) for state in (3, 7))
    third = decode(entry(one, other, 0, 3))
    assert first is not None
    assert again is not None
    assert third is not None
    assert first.identity == again.identity != third.identity


@given(st.binary(max_size=300))
def test_any_bytes_are_an_entry_or_none(body: bytes) -> None:
    found = decode(body)
    assert found is None or found.original.protocol in range(256)


@given(st.data())
def test_an_entry_that_is_damaged_is_an_entry_or_none(data: st.DataObject) -> None:
    one = Way("10.0.0.1", 1, "10.0.0.2", 2, 6)
    body = bytearray(entry(one, one, 0x20, 3))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = decode(bytes(body[: data.draw(st.integers(0, len(body)))]))
    assert found is None or found.reply.protocol in range(256)
