"""``mizzen net``: the network daemon, and what it keeps."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.control import network as control
from mizzen.host.paths import folders
from mizzen.model.network import Edge, Link

from . import output

app = App(name="net", help="Run the network daemon, and see and change what it keeps.")

Json = Annotated[bool, Parameter(name="--json", negative="")]

ValueT = TypeVar("ValueT")

AFTER_INSTALL = """\
systemd-sysusers
systemctl daemon-reload
systemctl enable --now mizzen-net.socket mizzen-net.service
usermod -aG mizzen USER    # who may ask it"""


class Logfmt(logging.Formatter):
    """One line a record: ``level=info msg="..."``, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        line = f"level={record.levelname.lower()} msg={_quoted(record.getMessage())}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line += f" error={_quoted(f'{type(error).__name__}: {error}')}"
            line += f" trace={_quoted(self.formatException(record.exc_info))}"
        return line


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(_visible(character) for character in escaped) + '"'


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


@app.command
def daemon(
    *,
    socket: Path | None = None,
    group: str | None = None,
    user: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Keep addresses, links and published ports, until SIGTERM; what is set up then stays.

    As root, in the kernel. Without, published ports lead to machines on QEMU's user networking
    through this process, and end with it.

    Parameters
    ----------
    socket
        Where to listen, unless systemd has handed a socket over.
    group
        Whose members may ask; mizzen by default, where there is such a group.
    user
        Do without root even as root.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Logfmt())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    control.run_daemon(folders(), socket=socket, group=group, user=user)


@app.command
def status(*, json: Json = False) -> None:
    """Say who answers, and how much they keep.

    Parameters
    ----------
    json
        Print JSON.
    """
    place = folders()
    found = asyncio.run(control.client(place).status())
    if json:
        output.as_json(found)
        return
    how = "in the kernel" if found.mode == "kernel" else "without root, through a relay"
    output.console.print(f"[bold]{found.mode}[/]  {how}, version {found.version}")
    for name, count in (
        ("addresses", found.addresses),
        ("links", found.links),
        ("publications", found.publications),
        ("edges", found.edges),
    ):
        output.console.print(Text(f"  {name:<13}", style="dim").append(f"{count}", "not dim"))
    where = str(control.socket_path(place))
    output.console.print(Text("  socket       ", "dim").append(where, "not dim"), soft_wrap=True)


@app.command
def links(*, json: Json = False) -> None:
    """List the links of machines.

    Parameters
    ----------
    json
        Print JSON.
    """
    found: list[tuple[Link, bool]] = _all(control.client(folders()).links())
    if json:
        output.as_json(
            [{"link": link, "interface": link.interface, "up": up} for link, up in found]
        )
        return
    output.table(
        ("INTERFACE", "MACHINE", "LABEL", "ADDRESSES", "OUTWARD", "STATE"),
        [
            (
                link.interface,
                Text(link.machine, "bold"),
                link.label,
                " ".join(link.addresses),
                "yes" if link.outward else "no",
                Text("up", "green") if up else Text("down", "dim"),
            )
            for link, up in found
        ],
        "There are no links. A machine gets one: mizzen machines start SOURCE --prefix PREFIX",
    )


@app.command
def edges(*, json: Json = False) -> None:
    """List which services may reach which others' ports.

    Parameters
    ----------
    json
        Print JSON.
    """
    found: list[Edge] = _all(control.client(folders()).edges())
    if json:
        output.as_json(found)
        return
    output.table(
        ("FROM", "TO", "PORT"),
        [(edge.source, edge.target, f"{edge.port}/{edge.transport}") for edge in found],
        "There are no edges: no service reaches another. Allow it: mizzen net allow FROM TO PORT",
    )


Source = Annotated[str, Parameter(name="FROM")]
Target = Annotated[str, Parameter(name="TO")]
Port = Annotated[str, Parameter(name="PORT")]


@app.command
def allow(source: Source, target: Target, port: Port, /, *, json: Json = False) -> None:
    """Let machines of one service reach a port of another's.

    Parameters
    ----------
    source
        The service, or the machine's name, that begins.
    target
        The service, or the machine's name, that answers.
    port
        The target's own port: PORT, or PORT/udp.
    json
        Print the edge as JSON.
    """
    edge = control.edge(source, target, port)
    asyncio.run(control.client(folders()).allow(edge))
    _tell(edge, "may reach", json=json)


@app.command
def deny(source: Source, target: Target, port: Port, /, *, json: Json = False) -> None:
    """Take back what was allowed; connections that it allowed end.

    Parameters
    ----------
    source
        The service, or the machine's name, that begins.
    target
        The service, or the machine's name, that answers.
    port
        The target's own port: PORT, or PORT/udp.
    json
        Print the edge as JSON.
    """
    edge = control.edge(source, target, port)
    asyncio.run(control.client(folders()).deny(edge))
    _tell(edge, "may not reach", json=json)


def _tell(edge: Edge, verb: str, *, json: bool) -> None:
    if json:
        output.as_json(edge)
        return
    port = f"{edge.port}/{edge.transport}"
    output.console.print(Text(f"{edge.source} {verb} {edge.target} at {port}"), soft_wrap=True)


@app.command
def install(
    *,
    root: Path = Path("/"),
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Make the network daemon a service of systemd's.

    Parameters
    ----------
    root
        The folder that stands for /, such as an image's.
    dry_run
        Print what would be written, and write nothing.
    json
        Print JSON.
    """
    units = control.installed_units(root)
    if not dry_run:
        control.check_enterable()
        control.install(units)
    if json:
        output.as_json(units)
        return
    for unit in units:
        if dry_run:
            output.console.print(Text(f"# {unit.path}", "bold"), soft_wrap=True)
            sys.stdout.write(unit.text + "\n")
        else:
            said = "is there already" if unit.there else "written"
            output.console.print(Text(f"{unit.path}  ").append(said, "dim"), soft_wrap=True)
    if not dry_run:
        output.console.print(f"Now run, as root:\n\n{AFTER_INSTALL}", markup=False)


def _all(entries: AsyncIterator[ValueT]) -> list[ValueT]:
    async def collect() -> list[ValueT]:
        return [entry async for entry in entries]

    return asyncio.run(collect())
