"""What the daemon's nftables table holds for links, publications and edges, as text.

Every rule is fixed; links, publications and edges are elements of sets and maps, so that a change
never touches a rule. Interfaces of machines are told by the beginning of their names.

Packets of a machine pass ``sender`` (they must be its own), ``published`` (destinations that lead
elsewhere), then ``to_host`` or ``from_machine``. Where a rule says "accept", other tables on the
same hook still have their say. What most packets match comes first; chains of NAT see the first
packet of a connection only.

A machine's own ports are not kept on the way out: an answer that comes after its flow was
forgotten, because a publication leads elsewhere now, would else begin a flow from the published
port, and what the client sends there would go on to where it went before.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import groupby
from typing import NamedTuple

from mizzen.model.network import INTERFACE_PREFIX, Forward, Link, Transport

from .plane import Parts

TABLE = "inet mizzen"


class Element(NamedTuple):
    """An element of a set, or of a map that leads from the key to a value ("" in a set)."""

    place: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key} : {self.value}" if self.value else self.key


class Passage(NamedTuple):
    """What an edge allows: from a machine's address to a port of another's."""

    source: str
    target: str
    transport: Transport
    port: int


_TARGETS4 = "ipv4_addr . inet_service"
_TARGETS6 = "ipv6_addr . inet_service"

PLACES = {
    "sources4": "ifname . ether_addr . ipv4_addr",
    "sources6": "ifname . ether_addr . ipv6_addr",
    "gateways4": "ifname . ipv4_addr",
    "gateways6": "ifname . ipv6_addr",
    "outward": "ifname",
    "selves": "ifname . ifname",
    "edges4": "ipv4_addr . ipv4_addr . inet_proto . inet_service",
    "edges6": "ipv6_addr . ipv6_addr . inet_proto . inet_service",
    "published4": f"ipv4_addr . inet_proto . inet_service : {_TARGETS4}",
    "published6": f"ipv6_addr . inet_proto . inet_service : {_TARGETS6}",
    "anywhere4": f"inet_proto . inet_service : {_TARGETS4}",
    "anywhere6": f"inet_proto . inet_service : {_TARGETS6}",
}
"""Sets and maps, with their types. A map's has a colon.

sources: what a machine may send from. gateways: the host's address on a link. outward: interfaces
of machines that may begin conversations. selves: each interface with itself. edges: source,
target, target's port. published: a host's address and port; anywhere: a port of all its addresses.
"""

_MACHINES = f'"{INTERFACE_PREFIX}*"'

# An entry in TIME_WAIT only translates what is sent again after both sides have ended: after 1, 3
# and 7 s where TCP's first timeout is 1 s (RFC 6298), and each begins the 10 s anew. With the
# kernel's 120 s, 2,200 connections a second fill its usual table of 262,144. It is set where a
# connection's first packet passes, before its entry is in the table (nft_ct_timeout_obj_eval in
# net/netfilter/nft_ct.c). An object that is there already is kept as it is, so its name tells all.
_TIMEOUT = """\
	ct timeout ended-10s {
		protocol tcp
		policy = { time_wait : 10 }
	}

"""
_TIMED = f"""\
		oifname {_MACHINES} ct status dnat meta l4proto tcp ct timeout set "ended-10s"
"""

RULES = f"""\
{_TIMEOUT}\
	chain spoofing {{
		type filter hook prerouting priority raw; policy accept;
		iifname {_MACHINES} jump sender
	}}

	chain sender {{
		iifname . ether saddr . ip saddr @sources4 accept
		ip6 saddr fe80::/10 meta l4proto != icmpv6 drop
		ip6 saddr fe80::/10 icmpv6 type != {{ nd-neighbor-solicit, nd-neighbor-advert }} drop
		iifname . ether saddr . ip6 saddr @sources6 accept
		ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
		drop
	}}

	chain arriving {{
		type nat hook prerouting priority dstnat; policy accept;
		iifname {_MACHINES} ip daddr 127.0.0.0/8 drop
		fib daddr type local jump published
	}}

	chain own {{
		type nat hook output priority -100; policy accept;
		fib daddr type local jump published
	}}

	chain published {{
		dnat ip to ip daddr . meta l4proto . th dport map @published4
		dnat ip to meta l4proto . th dport map @anywhere4
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6
		dnat ip6 to meta l4proto . th dport map @anywhere6
	}}

	chain leaving {{
		type nat hook postrouting priority srcnat; policy accept;
{_TIMED}\
		iifname {_MACHINES} oifname != {_MACHINES} goto outward_bound
		iifname . oifname @selves masquerade
		oifname {_MACHINES} ip saddr 127.0.0.0/8 masquerade
	}}

	chain outward_bound {{
		meta l4proto {{ tcp, udp }} masquerade to :32768-60999 fully-random
		masquerade
	}}

	chain input {{
		type filter hook input priority filter; policy accept;
		iifname {_MACHINES} jump to_host
	}}

	chain to_host {{
		ct state established,related accept
		icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
		icmp type echo-request iifname . ip daddr @gateways4 accept
		icmpv6 type echo-request iifname . ip6 daddr @gateways6 accept
		drop
	}}

	chain forward {{
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		iifname {_MACHINES} goto from_machine
		oifname {_MACHINES} goto to_machine
	}}

	chain from_machine {{
		ct state invalid drop
		ip saddr . ip daddr . meta l4proto . th dport @edges4 accept
		ip6 saddr . ip6 daddr . meta l4proto . th dport @edges6 accept
		iifname @outward ct status dnat accept
		iifname @outward oifname != {_MACHINES} accept
		reject with icmpx admin-prohibited
	}}

	chain to_machine {{
		ct status dnat accept
		drop
	}}
"""


CHAINS = tuple(re.findall(r"^\tchain (\w+)", RULES, re.MULTILINE))
"""Names of the chains, which are the same whatever the sets and maps hold."""


def elements(parts: Parts) -> frozenset[Element]:
    """Return what the sets and maps hold for links, publications and edges."""
    found: set[Element] = set()
    for link in parts.links:
        found.update(_of_link(link))
    for publication in parts.publications:
        found.update(_of_forward(forward) for forward in publication.forwards)
    for source, target, transport, port in passages(parts):
        key = f"{source} . {target} . {transport} . {port}"
        found.add(Element(f"edges{version(source)}", key))
    return frozenset(found)


def passages(parts: Parts) -> frozenset[Passage]:
    """Return what edges allow between links."""
    labelled: defaultdict[str, list[Link]] = defaultdict(list)
    for link in parts.links:
        labelled[link.label].append(link)
    return frozenset(
        Passage(sender, receiver, edge.transport, edge.port)
        for edge in parts.edges
        for source in labelled.get(edge.source, ())
        for target in labelled.get(edge.target, ())
        if source != target
        for sender in source.addresses
        for receiver in target.addresses
        if version(sender) == version(receiver)
    )


def change(before: Parts, after: Parts) -> str:
    """Return the script that makes the one the other, "" if nothing is to be done.

    nft carries a script out as one transaction.
    """
    return difference(elements(before), elements(after))


def difference(old: frozenset[Element], new: frozenset[Element]) -> str:
    """Return the script that makes some elements others."""
    gone, come = _grouped(old - new), _grouped(new - old)
    script = [
        f"delete element {TABLE} {place} {{ {', '.join(element.key for element in group)} }}\n"
        for place, group in gone
    ]
    script += [
        f"add element {TABLE} {place} {{ {', '.join(map(str, group))} }}\n" for place, group in come
    ]
    return "".join(script)


def table(parts: Parts) -> str:
    """Return the script that replaces the whole table, whether or not there is one."""
    held = dict(_grouped(elements(parts)))
    places = [_place(name, kind, held.get(name, [])) for name, kind in PLACES.items()]
    return f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{''.join(places)}\n{RULES}}}\n"


def without_timeout(script: str) -> str:
    """Return a script for a kernel that lets no connection have timeouts of its own.

    Those are Linux's without CONFIG_NF_CONNTRACK_TIMEOUT.
    """
    return script.replace(_TIMEOUT, "").replace(_TIMED, "")


def link_local(mac: str) -> str:
    """Return the link-local IPv6 address that is made of a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ip_address(b"\xfe\x80" + bytes(6) + identifier))


def version(address: str) -> int:
    """Return 4 or 6."""
    return ip_address(address).version


def _of_link(link: Link) -> Iterator[Element]:
    interface = f'"{link.interface}"'
    for address in link.addresses:
        yield Element(f"sources{version(address)}", f"{interface} . {link.mac} . {address}")
        if version(address) == 6:
            own = link_local(link.mac)
            yield Element("sources6", f"{interface} . {link.mac} . {own}")
    for gateway in link.gateways:
        yield Element(f"gateways{version(gateway)}", f"{interface} . {gateway}")
    yield Element("selves", f"{interface} . {interface}")
    if link.outward:
        yield Element("outward", interface)


def _of_forward(forward: Forward) -> Element:
    key = f"{forward.transport} . {forward.port}"
    value = f"{forward.target} . {forward.target_port}"
    if forward.address:
        return Element(f"published{forward.version}", f"{forward.address} . {key}", value)
    return Element(f"anywhere{forward.version}", key, value)


def _grouped(found: Iterable[Element]) -> list[tuple[str, list[Element]]]:
    ordered = sorted(found)
    return [(place, list(group)) for place, group in groupby(ordered, lambda one: one.place)]


def _place(name: str, kind: str, held: list[Element]) -> str:
    noun = "map" if ":" in kind else "set"
    content = f"\t\telements = {{ {', '.join(map(str, held))} }}\n" if held else ""
    return f"\t{noun} {name} {{\n\t\ttype {kind}\n{content}\t}}\n"
