from __future__ import annotations

import pytest

from mizzen.network import netlink


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("::1", True), ("203.0.113.77", False), ("2001:db8::77", False)],
)
def test_an_address_of_this_host_is_known_by_its_route(address: str, *, own: bool) -> None:
    assert netlink.is_own(address) is own
