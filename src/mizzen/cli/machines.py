"""``mizzen machines``: start, list, show, read, enter and stop virtual machines."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.markup import escape
from rich.text import Text

from mizzen.control import machines as control
from mizzen.control import network
from mizzen.host.paths import folders
from mizzen.machines import logs as machine_logs
from mizzen.machines.registry import ENDED, Registry
from mizzen.model.errors import Failure, UsageError
from mizzen.model.log import LogLine, Stream
from mizzen.model.machine import Accel, Machine, MachineState
from mizzen.model.network import Transport

from . import output, terminal

app = cyclopts.App(name="machines", help="Start, watch and stop virtual machines.")

GRACE_MAX = 3600
"""Seconds that init waits at most."""

COLOURS = {
    MachineState.STARTING: "yellow",
    MachineState.RUNNING: "green",
    MachineState.STOPPED: "dim",
    MachineState.FAILED: "red",
}

STYLES = {Stream.STDERR: "yellow", Stream.INIT: "dim"}


@app.command
def start(
    source: str,
    /,
    *,
    name: str | None = None,
    memory: int = 256,
    vcpus: int = 1,
    kernel: Path | None = None,
    accel: Accel | None = None,
    publish: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    prefix: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    outward: bool | None = None,
    append: str = "",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Start a machine that outlives this command.

    Parameters
    ----------
    source
        A folder that has a Dockerfile, or an OCI image.
    name
        What to call it; made from the source by default.
    memory
        MiB of RAM.
    vcpus
        Virtual CPUs.
    kernel
        A bzImage or an ELF vmlinux to boot instead of Debian's.
    accel
        kvm or tcg; by default what is found to work here.
    publish
        HOST:GUEST makes the machine's TCP port answer at 127.0.0.1:HOST; 0 takes a free port.
        HOST:GUEST/udp does so with a UDP port; that needs --outward.
    prefix
        Give it an address of this prefix and a link of its own, by the network daemon; once for
        IPv4, once for IPv6.
    outward
        Whether it may begin conversations: by default with a link, and not without. Without a
        link it may then reach whatever you can, this host's own services too.
    append
        Kernel parameters to add.
    json
        Print the machine as JSON.
    """
    wish = control.Wish(
        source=source,
        name=name,
        memory=memory,
        vcpus=vcpus,
        kernel=kernel,
        accel=accel,
        publish=tuple(control.parse_publication(text) for text in publish),
        command_line=append,
        prefixes=prefix,
        outward=outward,
    )
    with output.progress() as report:
        machine = asyncio.run(control.start(wish, folders(), report, network.client(folders())))
    if json:
        output.as_json(machine)
        return
    output.console.print(f"[bold]{machine.spec.name}[/] is starting")
    for port in machine.ports:
        told = f"{port.guest}{'/udp' if port.transport is Transport.UDP else ''}"
        output.console.print(f"  port {told} answers at 127.0.0.1:{port.host}")
    for address in _addresses(machine):
        output.console.print(f"  its address is {address}")
    output.console.print(f"  mizzen machines logs -f {machine.spec.name}", style="dim")


@app.command(name="list")
def list_(*, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """List all machines, running or not.

    Parameters
    ----------
    json
        Print them as JSON.
    """
    with control.registry(folders()) as registry:
        machines = registry.everything()
    if json:
        output.as_json(machines)
        return
    output.table(
        ("NAME", "STATE", "SINCE", "SOURCE", "ADDRESSES", "PORTS"),
        [
            (
                Text(machine.spec.name, "bold"),
                Text(machine.state, COLOURS[machine.state]),
                output.age(machine.ended or machine.created),
                machine.spec.reference,
                " ".join(_addresses(machine)),
                _ports(machine),
            )
            for machine in machines
        ],
        "There are no machines. Start one: mizzen machines start SOURCE",
    )


@app.command
def show(name: str, /, *, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Show all that is known of a machine.

    Parameters
    ----------
    name
        The machine's name.
    json
        Print it as JSON.
    """
    with control.registry(folders()) as registry:
        machine = registry.find(name)
        files = registry.files(name)
    if json:
        output.as_json(machine)
        return
    spec = machine.spec
    facts = [
        ("state", f"[{COLOURS[machine.state]}]{machine.state}[/]"),
        ("reason", escape(machine.reason)),
        ("status", "" if machine.status is None else str(machine.status)),
        ("started", output.clock(machine.created)),
        ("ended", output.clock(machine.ended) if machine.ended else ""),
        ("source", escape(spec.reference)),
        ("command", escape(" ".join(spec.process.arguments) if spec.process else "")),
        ("arguments", escape(spec.command_line)),
        ("size", f"{spec.memory} MiB, {spec.vcpus} vCPU, {spec.accel}"),
        ("kernel", escape(str(spec.kernel))),
        ("address", " ".join(_addresses(machine))),
        ("link", _link(machine)),
        ("ports", _ports(machine)),
        ("process", str(machine.pid) if machine.state is MachineState.RUNNING else ""),
        ("logs", escape(str(files.logs))),
    ]
    output.console.print(f"[bold]{spec.name}[/]")
    for label, value in facts:
        if value:
            output.console.print(f"  [dim]{label:<9}[/] {value}", soft_wrap=True)


@app.command
def logs(
    name: str,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    console: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Print what a machine has written.

    Parameters
    ----------
    name
        The machine's name.
    follow
        Go on until the machine ends.
    console
        Print the serial console, where the kernel writes, instead of the function's output; of a
        unikernel there is nothing else.
    json
        Print one JSON object a line.
    """
    with control.registry(folders()) as registry:
        console = console or registry.find(name).spec.unikernel
        asyncio.run(_print_logs(registry, name, follow=follow, console=console, json=json))


@app.command
def console(name: str, /, *, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Connect the terminal to a machine's serial console; Ctrl-] leaves it.

    Parameters
    ----------
    name
        The machine's name.
    json
        Print where the console's Unix socket is instead, for other programs.
    """
    with control.registry(folders()) as registry:
        machine = registry.find(name)
        files = registry.files(name)
    what = f"cannot open the console of {name}"
    if machine.state in ENDED:
        raise Failure(
            what, f"it has ended: {machine.reason}", f"see: mizzen machines logs --console {name}"
        )
    if json:
        output.as_json({"name": name, "socket": files.console_socket})
        return
    output.errors.print(f"[dim]Console of {name}; Ctrl-] leaves it.[/]")
    asyncio.run(terminal.connect(files.console_socket, what))


@app.command
def stop(
    name: str, /, *, grace: float = 10, json: Annotated[bool, Parameter(negative=())] = False
) -> None:
    """Stop a machine: its function gets SIGTERM, and is killed if that does not end it.

    A unikernel is ended at once, as there is no way to ask it.

    Parameters
    ----------
    name
        The machine's name.
    grace
        Seconds that the function has to end by itself.
    json
        Print the machine as JSON.
    """
    if not 0 <= grace <= GRACE_MAX:
        raise UsageError(
            f"cannot wait {grace} s", "that is out of range", f"give 0 to {GRACE_MAX} seconds"
        )
    with control.registry(folders()) as registry:
        machine = asyncio.run(registry.stop(name, grace))
    if json:
        output.as_json(machine)
    else:
        output.console.print(f"[bold]{name}[/] has ended: {escape(machine.reason)}")


@app.command
def remove(name: str, /) -> None:
    """Forget a machine that has ended: delete its logs, release its addresses.

    Parameters
    ----------
    name
        The machine's name.
    """
    asyncio.run(control.remove(name, folders(), network.client(folders())))


async def _print_logs(
    registry: Registry, name: str, /, *, follow: bool, console: bool, json: bool
) -> None:
    files = registry.files(name)

    def alive() -> bool:
        return follow and registry.alive(name)

    if console:
        async for line in machine_logs.lines(files.console, alive):
            _print_record(LogLine(None, Stream.KERNEL, line), json=json)
        return
    async for record in machine_logs.records(files.log, alive):
        _print_record(record, json=json)


def _print_record(record: LogLine, *, json: bool) -> None:
    if json:
        output.as_json_line(record)
        return
    if not output.console.is_terminal:
        sys.stdout.write(f"{record.text}\n")
        sys.stdout.flush()
        return
    text = terminal.harmless(record.text)
    output.console.print(
        text, style=STYLES.get(record.stream), markup=False, soft_wrap=True, emoji=False
    )


def _ports(machine: Machine) -> str:
    if machine.state in ENDED:
        return ""
    return " ".join(str(port) for port in machine.ports)


def _addresses(machine: Machine) -> tuple[str, ...]:
    return machine.spec.network.addresses if machine.spec.network is not None else ()


def _link(machine: Machine) -> str:
    link = machine.spec.network
    if link is None:
        return ""
    outward = "" if link.outward else ", no way out"
    return f"{escape(link.label or machine.spec.name)}, {link.mac}{outward}"
