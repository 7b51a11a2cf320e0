"""What requests say, checked and brought into one form, before anything changes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Edge, Forward, Publication, endpoint

from . import protocol
from .addresses import read_address, shortened
from .links import HOST_MAC

NAME_MAX = 63
"""Characters of the name of a machine, a label or a publication."""

_FAMILIES = ([4], [6], [4, 6])
_NO_MACHINES = {HOST_MAC, "00:00:00:00:00:00"}


def check_name(name: str, what: str) -> str:
    """Return a name that can be written down and shown. Raises Failure."""
    if not name:
        raise Failure(what, "its name is empty", "name it")
    if len(name) > NAME_MAX:
        raise Failure(
            what, f"{shortened(name)!r} has {len(name)} characters", f"give at most {NAME_MAX}"
        )
    if not name.isprintable():
        raise Failure(what, f"{name!r} cannot be shown", "choose another name")
    return name


def check_port(port: int, what: str) -> int:
    """Return a port. Raises Failure if there is none of that number."""
    if not 1 <= port <= 65535:
        raise Failure(what, f"there is no port {port}", "give 1 to 65535")
    return port


def check_edge(edge: Edge) -> Edge:
    """Return an edge that can be declared. Raises Failure."""
    what = "cannot change this edge"
    check_name(edge.source, what)
    check_name(edge.target, what)
    check_port(edge.port, what)
    return edge


def check_publications(publications: Sequence[Publication]) -> tuple[Publication, ...]:
    """Return publications with addresses in canonical form. Raises Failure."""
    what = "cannot publish"
    count = sum(len(one.forwards) for one in publications)
    if count > protocol.FORWARDS_MAX:
        raise Failure(what, f"that is {count} ports", f"give {protocol.FORWARDS_MAX} at once")
    names = [check_name(one.name, what) for one in publications]
    for name in names:
        if names.count(name) > 1:
            raise Failure(what, f"{name} is there twice", "name each publication once")
    return tuple(canonical(one) for one in publications)


def canonical(publication: Publication) -> Publication:
    """Return a publication with addresses in canonical form. Raises Failure."""
    what = f"cannot publish {publication.name}"
    if not publication.forwards:
        raise Failure(what, "it has no ports", "name one, or remove the publication")
    return replace(publication, forwards=tuple(_forward(one, what) for one in publication.forwards))


def _forward(forward: Forward, what: str) -> Forward:
    check_port(forward.port, what)
    check_port(forward.target_port, what)
    target = read_address(forward.target, what)
    if not forward.address:
        return replace(forward, target=str(target))
    address = read_address(forward.address, what)
    if address.version != target.version:
        raise Failure(
            what,
            f"{address} cannot lead to {target}, which is IPv{target.version}",
            f"give an IPv{target.version} address of this host",
        )
    return replace(forward, address=str(address), target=str(target))


def check_cell(cell: Cell) -> Cell:
    """Return a cell with addresses in canonical form. Raises Failure."""
    what = "cannot open a cell"
    addresses = [read_address(text, what) for text in cell.addresses]
    gateways = [read_address(text, what) for text in cell.gateways]
    families = [address.version for address in addresses]
    if sorted(families) not in _FAMILIES:
        raise Failure(what, "it has no address, or two of one family", "give one of each or either")
    if families != [gateway.version for gateway in gateways]:
        raise Failure(what, "its gateways are not of its addresses' families", "give one for each")
    if set(addresses) & set(gateways):
        raise Failure(what, "its gateway has its address", "give the gateway another")
    mac = cell.mac.lower()
    # The lowest bit of the first octet says that it is of a group.
    if not re.fullmatch(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", mac) or mac in _NO_MACHINES:
        raise Failure(
            what, f"{shortened(cell.mac)!r} is no machine's MAC address", "give the machine's own"
        )
    return Cell(tuple(map(str, addresses)), tuple(map(str, gateways)), mac)


def check_targets(targets: Collection[str], seconds: float) -> tuple[str, ...]:
    """Return targets whose connections may be waited for, in canonical form. Raises Failure.

    seconds: that they are waited for.
    """
    what = "cannot wait for connections to end"
    if len(targets) > protocol.FORWARDS_MAX:
        raise Failure(
            what, f"there are {len(targets)} targets", f"give {protocol.FORWARDS_MAX} at once"
        )
    if not (math.isfinite(seconds) and 0 <= seconds <= protocol.DRAIN_MAX):
        raise Failure(what, f"{seconds:g} s is out of range", f"give 0 to {protocol.DRAIN_MAX:g} s")
    return tuple(_target(text, what) for text in targets)


def _target(text: str, what: str) -> str:
    if not text.startswith("[") and text.count(":") != 1:
        return str(read_address(text, what))
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    address = read_address(bare, what)
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise Failure(what, f"{shortened(text)!r} has no port", "write ADDRESS:PORT")
    number = check_port(int(port), what)
    return endpoint(str(address), number)
