"""``mizzen ip``: addresses that tags hold."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.control import network as control
from mizzen.host.paths import folders
from mizzen.model.network import Lease

from . import output

app = App(name="ip", help="Request, list and release addresses of the host's private prefixes.")

Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List addresses and who holds them.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def collect() -> list[Lease]:
        return [lease async for lease in control.client(folders()).addresses()]

    leases = asyncio.run(collect())
    if json:
        output.as_json(leases)
        return
    output.table(
        ("ADDRESS", "TAG", "PREFIX"),
        [(Text(lease.address, "bold"), lease.tag, lease.prefix) for lease in leases],
        "No addresses are held. Request one: mizzen ip request --tag TAG --prefix PREFIX",
    )


@app.command
def request(
    *,
    tag: str,
    prefix: str,
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    json: Json = False,
) -> None:
    """Print an address of a prefix: the one the tag holds there, or the lowest that is free.

    Parameters
    ----------
    tag
        What the address is for; the same tag gets the same address until it is released.
    prefix
        IPv4 from /8 to /30, or IPv6 from /64 to /126. Its first address is the gateway, the host's.
    exclude
        An address or a prefix that will not do; may be given again.
    json
        Print the lease as JSON.
    """
    lease = asyncio.run(control.client(folders()).request_address(tag, prefix, exclude))
    if json:
        output.as_json(lease)
    else:
        output.console.print(lease.address)


@app.command
def release(tag: str, /, *, prefix: str = "") -> None:
    """Give up what a tag holds.

    Parameters
    ----------
    tag
        The tag.
    prefix
        Only its address of this prefix; all by default.
    """
    asyncio.run(control.client(folders()).release_address(tag, prefix))
