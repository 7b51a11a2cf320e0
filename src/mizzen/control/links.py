"""Giving machines addresses and links of their own, and taking them back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network

from mizzen.machines.protocol import Connected
from mizzen.model.errors import Failure, UsageError
from mizzen.model.machine import MachineNetwork
from mizzen.network.client import Network
from mizzen.network.protocol import MACHINE_TAG


def tag(machine: str) -> str:
    """Return what a machine's leases are tagged with."""
    return MACHINE_TAG + machine


def check_prefixes(what: str, prefixes: Sequence[str]) -> None:
    """Raise UsageError if these cannot be the prefixes of one machine's addresses.

    The network daemon looks closer; this is for the time before a build that takes minutes.
    """
    versions = []
    for prefix in prefixes:
        try:
            versions.append(ip_network(prefix).version)
        except ValueError as error:
            raise UsageError(what, str(error), "write a prefix such as 10.70.0.0/24") from error
    if len(set(versions)) < len(versions):
        raise UsageError(
            what,
            f"{' and '.join(prefixes)} are of one family",
            "give one prefix of IPv4, one of IPv6, or one of each",
        )


async def check_kernel_mode(what: str, network: Network) -> None:
    """Raise Failure if no network daemon answers, or one that makes no links."""
    if (await network.status()).mode != "kernel":
        raise Failure(
            what,
            f"the network daemon at {network.path} runs without root and makes no links",
            "publish ports with --publish, or run: sudo mizzen net daemon",
        )


@contextlib.asynccontextmanager
async def connected(
    network: Network, machine: str, wanted: MachineNetwork
) -> AsyncIterator[Connected]:
    """Lease a machine's addresses and make its link while the block lasts that starts it.

    The link and the leases stay if the block succeeds, and are given back if it fails.
    """
    try:
        for prefix in wanted.prefixes:
            await network.request_address(tag(machine), prefix)
        async with linked(network, machine, wanted) as made:
            yield made
    except BaseException as error:
        try:
            await disconnect(network, machine)
        except Failure as left:
            error.add_note(f"and its link is left until mizzen collect: {left}")
        raise


@contextlib.asynccontextmanager
async def linked(
    network: Network, machine: str, wanted: MachineNetwork
) -> AsyncIterator[Connected]:
    """Make a machine's link of the leases that it has, while the block lasts that starts it.

    Whatever comes of the block, they stay: the next start finds them. Raises Failure, also if the
    addresses are not the wanted ones, where those are named.
    """
    link, interface = await network.open_link(machine, label=wanted.label, outward=wanted.outward)
    what = f"cannot start machine {machine}"
    try:
        if interface is None:
            raise Failure(
                what,
                "the network daemon sent no tap",
                "run the same version of Mizzen on both sides",
            )
        if wanted.addresses and set(wanted.addresses) != set(link.addresses):
            raise Failure(
                what,
                f"it was to have {' and '.join(wanted.addresses)}, and its tag holds"
                f" {' and '.join(link.addresses)}",
                f"release what is too much: mizzen ip release {tag(machine)}",
            )
        yield Connected(wanted.linked(link), interface)
    finally:
        if interface is not None:
            os.close(interface)


async def disconnect(network: Network, machine: str) -> None:
    """Remove a machine's link and release its leases, those that are there."""
    await network.close_link(machine)
    await network.release_address(tag(machine))
