"""``mizzen tools``: what sessions bring along, as far as it is kept on this host."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.builders import toolmaking, tools
from mizzen.builders.tools import Tools
from mizzen.host.paths import folders

from . import output

app = App(name="tools", help="Build, list and remove the tools that mizzen attach brings along.")

Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command
def build(*, json: Json = False) -> None:
    """Build the default tools of Debian packages: bash, strace, gdb, tcpdump, curl and others.

    From then on mizzen attach brings them along unless --tools names others. If they are there
    already they are built anew, of the packages' newest versions.

    Parameters
    ----------
    json
        Print what was built as JSON.
    """
    with output.progress() as report:
        built = asyncio.run(toolmaking.build_default(folders(), report))
    if json:
        output.as_json(built)
        return
    output.console.print(
        f"[bold]{built.name}[/] is built: {_size(built)}, {built.count} files", soft_wrap=True
    )


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the tools that are kept: the default ones, and those of images and archives once named.

    Parameters
    ----------
    json
        Print JSON instead of a table.
    """
    found = tools.everything(folders())
    if json:
        output.as_json(found)
        return
    output.table(
        ["NAME", "SIZE", "FILES", "MADE"],
        [
            [
                Text(one.name, style="bold"),
                Text(_size(one), justify="right"),
                Text(str(one.count), justify="right"),
                Text(output.clock(one.made), style="dim"),
            ]
            for one in found
        ],
        empty="There are no tools but busybox. Build the default ones: mizzen tools build",
    )


@app.command
def remove(name: str, /) -> None:
    """Remove tools; what is named again is made again.

    Parameters
    ----------
    name
        What mizzen tools list calls them.
    """
    asyncio.run(tools.remove(folders(), name))


def _size(one: Tools) -> str:
    return f"{max(1, one.size >> 20)} MiB"
