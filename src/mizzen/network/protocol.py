"""What the network daemon is asked and answers, over a Unix socket of type SOCK_SEQPACKET.

A message is one packet of JSON, MESSAGE_MAX bytes at most. A request is answered by one reply;
``Drain`` by any number of ``Draining``, of which the last has ``done`` set, and nothing may be
asked on that connection after it. A descriptor goes with a message as SCM_RIGHTS: a namespace with
``OpenLink``, a tap with its reply and with that to ``OpenCell``. Every request may be given again:
what is so already stays so.
"""

from __future__ import annotations

import msgspec

from mizzen.model.errors import Failure
from mizzen.model.network import Cell, Edge, Lease, Link, Publication

VERSION = 1

MESSAGE_MAX = 64 << 10
"""Bytes of a message."""

PAGE_MAX = 500
"""Entries in one reply that lists; it may have fewer, but only an empty one is the last."""

FORWARDS_MAX = 256
"""Forwards in one request."""

MACHINE_TAG = "machine:"
"""What the tag of a machine's leases begins with; its name follows."""

TIME_MAX = 20.0
"""Seconds that any request but ``Drain`` may take."""

DRAIN_MAX = 24 * 3600.0
"""Seconds that draining may take."""


class Request(msgspec.Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """Something that is asked of the daemon."""


class GetStatus(Request, frozen=True, tag="status"):
    """Ask who answers. Reply: ``Status``."""


class RequestAddress(Request, frozen=True, tag="address.request"):
    """Ask for an address of a prefix; a tag that holds one there gets the same. Reply: ``Leased``.

    exclude: addresses and prefixes that will not do.
    """

    tag: str
    prefix: str
    exclude: tuple[str, ...] = ()


class ReleaseAddress(Request, frozen=True, tag="address.release"):
    """Give up what a tag holds, of one prefix or all ("" ). Reply: ``Done``."""

    tag: str
    prefix: str = ""


class ListAddresses(Request, frozen=True, tag="address.list"):
    """List leases by address, those after one ("" from the first). Reply: ``Leases``."""

    after: str = ""


class OpenLink(Request, frozen=True, tag="link.open"):
    """Make a machine's link of leases that its tag ``machine:NAME`` holds. Reply: ``Opened``.

    With the descriptor of a network namespace, the machine's end is an interface ``eth0`` there,
    down and without addresses. Without, it is a tap, whose descriptor comes with the reply, and
    which is gone when all its descriptors are closed. A link that was there is made anew.
    label: "" is the machine's name.
    """

    machine: str
    label: str = ""
    outward: bool = True


class CloseLink(Request, frozen=True, tag="link.close"):
    """End a machine's link, if there is one. Its leases stay. Reply: ``Done``."""

    machine: str


class ListLinks(Request, frozen=True, tag="link.list"):
    """List links by number, those after one. Reply: ``Links``."""

    after: int = 0


class OpenCell(Request, frozen=True, tag="cell.open"):
    """Make a cell. Reply: ``Done``, with the descriptor of the machine's end, a tap.

    It is gone when all its descriptors are closed; each request makes another.
    """

    cell: Cell


class Publish(Request, frozen=True, tag="publication.set"):
    """Set publications, all at one instant, over those of the same names. Reply: ``Done``.

    New connections follow at once, TCP connections that are open stay where they are, and the
    next packet of any UDP flow goes to the new target.
    expect: refuse unless these publications, by name, are so at present (None: not there).
    """

    publications: tuple[Publication, ...]
    expect: dict[str, Publication | None] = {}


class Unpublish(Request, frozen=True, tag="publication.remove"):
    """Remove publications, those that are there. Reply: ``Done``."""

    names: tuple[str, ...]


class ListPublications(Request, frozen=True, tag="publication.list"):
    """List publications by name, those after one. Reply: ``Publications``."""

    after: str = ""


class AllowEdge(Request, frozen=True, tag="edge.allow"):
    """Declare an edge. Reply: ``Done``."""

    edge: Edge


class DenyEdge(Request, frozen=True, tag="edge.deny"):
    """Take an edge back, if it was declared; connections along it end. Reply: ``Done``."""

    edge: Edge


class ListEdges(Request, frozen=True, tag="edge.list"):
    """List edges in their order, those after one. Reply: ``Edges``."""

    after: Edge | None = None


class Drain(Request, frozen=True, tag="drain"):
    """Wait until no published connection to these targets is open, or the deadline.

    targets: addresses, or ADDRESS:PORT ([ADDRESS]:PORT for IPv6) for one port's connections.
    seconds: until the deadline. Reply: ``Draining`` whenever their number has changed, at most
    10 times a second; the first at once.
    """

    targets: tuple[str, ...]
    seconds: float


AnyRequest = (
    GetStatus
    | RequestAddress
    | ReleaseAddress
    | ListAddresses
    | OpenLink
    | CloseLink
    | ListLinks
    | OpenCell
    | Publish
    | Unpublish
    | ListPublications
    | AllowEdge
    | DenyEdge
    | ListEdges
    | Drain
)


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request as it is sent."""

    version: int
    request: AnyRequest


class Reply(msgspec.Struct, frozen=True, tag_field="is", forbid_unknown_fields=True):
    """What the daemon answers."""


class Refused(Reply, frozen=True, tag="refused"):
    """It was not done: the three parts of a ``Failure``."""

    what: str
    why: str
    fix: str = ""


class Done(Reply, frozen=True, tag="done"):
    """It is so now, and stays so after a crash."""


class Status(Reply, frozen=True, tag="status"):
    """Who answers.

    mode: "kernel" (nftables, taps) or "user" (a relay between sockets; no addresses, no links).
    version: Mizzen's.
    """

    mode: str
    version: str
    addresses: int
    links: int
    publications: int
    edges: int


class Leased(Reply, frozen=True, tag="lease"):
    """The address that was asked for."""

    lease: Lease


class Leases(Reply, frozen=True, tag="leases"):
    """A page of leases."""

    leases: tuple[Lease, ...]


class Opened(Reply, frozen=True, tag="link"):
    """The link that was made."""

    link: Link


class Links(Reply, frozen=True, tag="links"):
    """A page of links. Of each, whether its interface is up at present."""

    links: tuple[Link, ...]
    up: tuple[bool, ...]


class Publications(Reply, frozen=True, tag="publications"):
    """A page of publications."""

    publications: tuple[Publication, ...]


class Edges(Reply, frozen=True, tag="edges"):
    """A page of edges."""

    edges: tuple[Edge, ...]


class Draining(Reply, frozen=True, tag="flows"):
    """How many published TCP connections to the targets are open. done: no more will follow."""

    open: int
    done: bool


AnyReply = (
    Refused | Done | Status | Leased | Leases | Opened | Links | Publications | Edges | Draining
)

_call = msgspec.json.Decoder(Call)
_reply: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)


def encode(message: Call | AnyReply) -> bytes:
    """Return a message as one packet."""
    return msgspec.json.encode(message)


def decode_call(packet: bytes) -> AnyRequest:
    """Return the request in a packet. Raises Failure for anything that is none."""
    what = "cannot read the request"
    try:
        call = _call.decode(packet)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Failure(what, str(error), "use mizzen's own commands") from error
    if call.version != VERSION:
        raise Failure(
            what,
            f"it is of version {call.version} of the protocol, the daemon's is {VERSION}",
            "run the same version of Mizzen on both sides",
        )
    return call.request


def decode_reply(packet: bytes) -> AnyReply:
    """Return the reply in a packet. Raises Failure for anything that is none."""
    try:
        return _reply.decode(packet)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Failure(
            "cannot read the network daemon's answer",
            str(error),
            "run the same version of Mizzen on both sides",
        ) from error
