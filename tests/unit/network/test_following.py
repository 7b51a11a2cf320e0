"""Which UDP flows a change leads elsewhere."""

import pytest

from mizzen.model.network import Forward, Publication, Transport
from mizzen.network.conntrack import Flow, Way
from mizzen.network.following import leads, led_astray
from mizzen.network.plane import Parts

HOST = "192.0.2.1"


def flow(goes: str, port: int = 5353, asked: str = HOST) -> Flow:
    """A flow to port 53 of an address that goes somewhere."""
    status = 0 if goes == asked else 0x20
    original = Way("198.51.100.1", 999, asked, 53, 17)
    return Flow(original, Way(goes, port, "198.51.100.1", 999, 17), status, None, b"")


def dns(target: str, address: str = "") -> Parts:
    forward = Forward(address, 53, Transport.UDP, target, 5353)
    return Parts(publications=(Publication("dns", (forward,)),))


@pytest.mark.parametrize(
    ("before", "after", "seen", "astray"),
    [
        (dns("10.0.0.1"), dns("10.0.0.2"), flow("10.0.0.1"), True),
        (dns("10.0.0.1"), dns("10.0.0.2"), flow("10.0.0.2"), False),
        (dns("10.0.0.1"), Parts(), flow("10.0.0.1"), True),
        (dns("10.0.0.1"), Parts(), flow("10.0.0.9"), False),
        (Parts(), dns("10.0.0.1"), flow(HOST, 53), True),
        (Parts(), dns("10.0.0.1"), flow("8.8.8.8", 53, "8.8.8.8"), False),
        (dns("10.0.0.1"), dns("10.0.0.2"), flow("10.0.0.1", asked="192.0.2.77"), False),
        (dns("10.0.0.1", HOST), dns("10.0.0.2", HOST), flow("10.0.0.1"), True),
        (dns("10.0.0.1", "192.0.2.9"), dns("10.0.0.2", "192.0.2.9"), flow("10.0.0.1"), False),
    ],
)
def test_a_flow_that_goes_elsewhere_than_it_should_is_astray(
    before: Parts, after: Parts, seen: Flow, astray: bool
) -> None:
    own = {HOST, "192.0.2.9"}
    assert led_astray(seen, leads(before), leads(after), own.__contains__) is astray


def test_only_udp_is_led_anew() -> None:
    forward = Forward("", 53, Transport.TCP, "10.0.0.1", 53)
    assert not leads(Parts(publications=(Publication("dns", (forward,)),)))
