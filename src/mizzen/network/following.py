"""Which connections a change ends or makes start anew, as the kernel looks at first packets only.

UDP flows follow a publication with their next packet. What an edge no longer allows ends. TCP
connections that a publication led somewhere stay there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from mizzen.model.network import Transport

from . import conntrack, netlink, plan
from .conntrack import PROTOCOLS, Flow
from .plan import Passage
from .plane import Parts

Leads = Mapping[tuple[int, str, int], tuple[str, int]]
"""Where UDP goes: from a version of IP, a host's address ("" any) and port to a target's."""


def leads(parts: Parts) -> Leads:
    """Return where publications lead UDP."""
    return {
        (forward.version, forward.address, forward.port): (forward.target, forward.target_port)
        for publication in parts.publications
        for forward in publication.forwards
        if forward.transport is Transport.UDP
    }


def led_astray(flow: Flow, before: Leads, after: Leads, is_own: Callable[[str], bool]) -> bool:
    """Tell whether a UDP flow does not go where it should after a change.

    is_own: whether an address is the host's.
    """
    asked, port = flow.original.destination, flow.original.destination_port
    version = 6 if ":" in asked else 4
    goes = flow.reply.source, flow.reply.source_port
    should = after.get((version, asked, port)) or after.get((version, "", port))
    if should:
        return goes != should and is_own(asked)
    went = before.get((version, asked, port)) or before.get((version, "", port))
    return flow.published and goes == went


async def follow(before: Parts, after: Parts) -> None:
    """Remove the entries that a change has made wrong. Raises OSError."""
    old, new = leads(before), leads(after)
    changed = dict(old.items() ^ new.items())
    is_own = functools.cache(netlink.is_own)
    # The kernel goes through its whole table each time, some 10 ms: once for all ports.
    for version in sorted({version for version, _, _ in changed}):
        ports = {port for one, _, port in changed if one == version}
        port = ports.pop() if len(ports) == 1 else 0
        udp = conntrack.flows(version, protocol=PROTOCOLS[Transport.UDP], port=port)
        await conntrack.delete([f async for f in udp if led_astray(f, old, new, is_own)])
    closed = plan.passages(before) - plan.passages(after)
    for target in sorted({passage.target for passage in closed}):
        answered = conntrack.flows(plan.version(target), answering=target)
        await conntrack.delete([flow async for flow in answered if _passage(flow) in closed])


async def put_right(everything: Parts) -> None:
    """Remove the entries that are wrong whatever was before. Raises OSError."""
    should, allowed = leads(everything), plan.passages(everything)
    is_own = functools.cache(netlink.is_own)
    for version in sorted({version for version, _, _ in should}):
        udp = conntrack.flows(version, protocol=PROTOCOLS[Transport.UDP])
        await conntrack.delete([f async for f in udp if led_astray(f, {}, should, is_own)])
    machines = {address for link in everything.links for address in link.addresses}
    if machines:
        await conntrack.delete(
            [
                flow
                async for flow in conntrack.flows(sources=machines)
                if flow.reply.source in machines
                and not flow.published
                and _passage(flow) not in allowed
            ]
        )


def _passage(flow: Flow) -> Passage | None:
    for transport, protocol in PROTOCOLS.items():
        if flow.original.protocol == protocol:
            port = flow.reply.source_port
            return Passage(flow.original.source, flow.reply.source, transport, port)
    return None
