"""The kernel's filter of events, run by the kernel on a socket of another kind."""

import ctypes
import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.network.draining import NOTHING, TARGETS_MAX, Target, parse_target, program
from mizzen.network.netlink import attribute, nested


def passes(filtered: bytes, packet: bytes) -> bool:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        code = ctypes.create_string_buffer(filtered)
        described = struct.pack("@HP", len(filtered) // 8, ctypes.addressof(code))
        receiver.setsockopt(socket.SOL_SOCKET, 26, described)
        sender.settimeout(0)
        receiver.settimeout(0)
        try:
            sender.send(packet)
            return receiver.recv(65536) == packet
        except BlockingIOError:
            return False


def event(answering: str, original: str = "192.0.2.1") -> bytes:
    def way(address: str) -> bytes:
        packed = ip_address(address).packed
        kinds = (1, 2) if len(packed) == 4 else (3, 4)
        ends = attribute(kinds[0], packed), attribute(kinds[1], bytes(len(packed)))
        return nested(1, *ends) + nested(2, attribute(1, b"\6"))

    body = bytes(4) + nested(1, way(original)) + nested(2, way(answering))
    return struct.pack("=IHHII", 16 + len(body), 0x100, 0, 0, 0) + body


@pytest.mark.parametrize("version", [4, 6])
@given(st.data())
def test_events_of_targets_pass_and_no_others(version: int, data: st.DataObject) -> None:
    addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
    targets = data.draw(st.lists(addresses, max_size=8, unique=True))
    own = st.ip_addresses(v=version).map(str)
    other = data.draw(own.filter(lambda one: one not in targets))
    code = program(targets)
    assert all(passes(code, event(target)) for target in targets)
    assert not passes(code, event(other))
    assert not any(passes(code, event(other, original=target)) for target in targets)


def test_addresses_that_differ_in_one_word_are_told_apart() -> None:
    code = program(["fd77::1", "10.77.0.1"])
    for other in ("fd78::1", "fd77:0:1::1", "fd77::1:0:1", "fd77::2", "10.77.0.2"):
        assert not passes(code, event(other))


def test_as_many_targets_as_there_may_be_are_told_apart() -> None:
    targets = [f"fd77::{number:x}" for number in range(1, TARGETS_MAX + 1)]
    code = program(targets)
    assert passes(code, event(targets[-1]))
    assert not passes(code, event("fd78::1"))
    assert passes(program([*targets, "10.0.0.1"]), event("fd78::1"))


@given(st.binary(max_size=100))
def test_what_is_no_event_does_not_pass(packet: bytes) -> None:
    assert not passes(program(["10.77.0.1", "fd77::1"]), packet)


def test_the_filter_of_nothing_passes_nothing() -> None:
    assert not passes(NOTHING, event("10.77.0.1"))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.77.0.1", Target("10.77.0.1", 0)),
        ("10.77.0.1:80", Target("10.77.0.1", 80)),
        ("fd77:0::1", Target("fd77::1", 0)),
        ("[fd77::1]:80", Target("fd77::1", 80)),
    ],
)
def test_targets_are_read(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text", ["", "web", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "[10.0.0.1]:80", "[fd77::1]"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="that names no target"):
        parse_target(text)


@given(st.text())
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        found = parse_target(text)
    except Failure:
        return
    assert 0 <= found.port <= 65535
