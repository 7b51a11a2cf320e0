"""What nft lists and what the daemon says become comparable."""

from __future__ import annotations

import msgspec

from mizzen.benches import audit
from mizzen.benches.audit import Discord
from mizzen.model.network import Forward, Link, Publication, Transport
from mizzen.network.plane import Parts

LINK = Link(
    3, "web-1", "web", ("10.70.0.2", "fd70::2"), ("10.70.0.1", "fd70::1"), "02:4d:00:00:00:03"
)
PUBLICATION = Publication("web", (Forward("", 80, Transport.TCP, "10.70.0.2", 8080),))

LISTING = {
    "nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "mizzen", "handle": 1}},
        {"set": {"family": "inet", "name": "outward", "table": "mizzen", "elem": ["mizzen-3"]}},
        {"set": {"name": "selves", "elem": [{"concat": ["mizzen-3", "mizzen-3"]}]}},
        {"set": {"name": "edges4", "type": ["ipv4_addr"]}},
        {
            "map": {
                "name": "anywhere4",
                "elem": [[{"concat": ["tcp", 80]}, {"concat": ["10.70.0.2", 8080]}]],
            }
        },
        {"chain": {"name": "forward"}},
    ]
}  # fmt: skip


def test_what_nft_lists_is_what_was_to_be_there():
    listed = audit.listed(msgspec.json.encode(LISTING))
    wanted = audit.wanted(Parts((LINK,), (PUBLICATION,)))
    assert listed <= wanted
    assert {one[0] for one in listed} == {"outward", "selves", "anywhere4"}
    assert ("anywhere4", "tcp", "80", "10.70.0.2", "8080") in listed


def test_every_element_counts():
    wanted = audit.wanted(Parts((LINK,), (PUBLICATION,)))
    without = audit.wanted(Parts((LINK,)))
    assert wanted - without == {("anywhere4", "tcp", "80", "10.70.0.2", "8080")}
    sources = ("sources4", "mizzen-3", "02:4d:00:00:00:03", "10.70.0.2")
    assert sources in without


def test_discord_adds_up():
    assert Discord(1, 2, 3, 4, 5) + Discord(1, 1, 1, 1, 1) == Discord(2, 3, 4, 5, 6)
