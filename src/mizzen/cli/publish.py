"""``mizzen publish``: services, and rolling out new releases of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.control import publish as control
from mizzen.control import services
from mizzen.host.paths import folders
from mizzen.model.service import (
    Probe,
    Service,
)

from . import output
from . import services as shown

app = App(name="publish", help="Publish services, and switch to new releases of them.")

Json = Annotated[bool, Parameter(name="--json", negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Ready:
    """How a release shows that it is ready."""

    ready: str = "tcp"
    """How a release shows that it is ready: http:/PATH, tcp, command:COMMAND (run by the shell,
    with MIZZEN_ADDRESS and MIZZEN_PORT) or none."""
    ready_port: int = 0
    """The release's port to probe; by default its first TCP port."""
    expect_status: int = 200
    """The status that http:/PATH is answered with."""
    expect: str = ""
    """What the answer's body holds."""
    interval: float = 1.0
    """Seconds from one attempt to the next."""
    timeout: float = 5.0
    """Seconds that an attempt may take."""
    attempts: int = 60
    """After as many, the release has failed."""

    def probe(self) -> Probe:
        """Return the probe that is meant. Raises UsageError."""
        base = Probe(
            port=self.ready_port,
            status=self.expect_status,
            contains=self.expect,
            interval=self.interval,
            timeout=self.timeout,
            attempts=self.attempts,
        )
        return services.check_probe(services.parse_probe(self.ready, base))


@app.command
def add(
    name: str,
    target: str,
    /,
    *,
    port: Annotated[tuple[str, ...], Parameter(negative=())],
    address: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    ready: Ready = Ready(),
    drain: float = 30.0,
    json: Json = False,
) -> None:
    """Publish a service: start its first release, and lead ports of this host to it once ready.

    Parameters
    ----------
    name
        What to call the service.
    target
        A folder that has a Dockerfile or an OCI image, of which a machine is started; the name
        of a machine that runs; or the address of a link.
    port
        HOST:GUEST, or HOST:GUEST/udp; as often as there are ports.
    address
        Publish at this address of the host only; as often as there are such.
    drain
        Seconds that connections to the release before may go on after a switch.
    json
        Print the rollout's report as JSON.
    """
    service = Service(
        services.check_name(name),
        services.parse_ports(port, address),
        ready.probe(),
        services.check_drain(drain),
    )
    with output.progress() as report:
        done = asyncio.run(control.add(folders(), service, target, report))
    shown.tell(done, json=json)


@app.command
def switch(*targets: str, json: Json = False) -> None:
    """Roll out new releases, of one service or of several that switch at one instant.

    If one of them does not get ready, all that was live stays so.

    Parameters
    ----------
    targets
        NAME=TARGET of each service; TARGET as of mizzen publish add.
    json
        Print the rollout's report as JSON.
    """
    wanted = services.parse_targets(targets)
    with output.progress() as report:
        done = asyncio.run(control.switch(folders(), wanted, report))
    shown.tell(done, json=json)


@app.command
def rollback(name: str, /, *names: str, json: Json = False) -> None:
    """Roll out again what was live before, without building it.

    Parameters
    ----------
    name
        The service's name.
    names
        Others that switch at the same instant.
    json
        Print the rollout's report as JSON.
    """
    wanted = list(dict.fromkeys((name, *names)))
    with output.progress() as report:
        done = asyncio.run(control.roll_back(folders(), wanted, report))
    shown.tell(done, json=json)


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List services: the release that is live, and the one that is rolled out or has failed.

    Parameters
    ----------
    json
        Print them as JSON.
    """
    found = asyncio.run(control.views(folders()))
    if json:
        output.as_json(found)
        return
    output.table(
        ("NAME", "PORTS", "LIVE", "SINCE", "CURRENT"),
        [
            (
                Text(view.service.name, "bold"),
                " ".join(map(shown.port, view.service.ports)),
                shown.place(view.live) if view.live else Text("nothing", "red"),
                output.clock(view.live.live_since) if view.live and view.live.live_since else "",
                shown.current(view),
            )
            for view in found
        ],
        "There are no services. Add one: mizzen publish add NAME TARGET --port HOST:GUEST",
    )


@app.command
def show(name: str, /, *, json: Json = False) -> None:
    """Show a service with all its releases.

    Parameters
    ----------
    name
        The service's name.
    json
        Print it as JSON.
    """
    view = asyncio.run(control.view(folders(), name))
    if json:
        output.as_json(view)
        return
    output.console.print(Text(name, "bold"))
    facts = [
        ("ports", " ".join(map(shown.port, view.service.ports))),
        ("ready", shown.probe(view.service.probe)),
        ("drain", f"{view.service.drain:g} s"),
        ("busy", f"process {view.busy} changes it" if view.busy else ""),
    ]
    for label, value in facts:
        if value:
            output.console.print(Text(f"  {label:<8}", "dim").append(value, "not dim"))
    output.console.print()
    output.table(
        ("RELEASE", "STATE", "WHAT", "STARTED", "REASON"),
        [
            (
                str(release.number),
                Text(release.state, shown.COLOURS[release.state]),
                shown.what(release),
                output.clock(release.created),
                release.reason,
            )
            for release in view.releases
        ],
        "It has no releases.",
    )


@app.command
def remove(name: str, /, *, json: Json = False) -> None:
    """Remove a service: unpublish it at once, let its connections end, stop its machines.

    Parameters
    ----------
    name
        The service's name.
    json
        Print what became of its connections as JSON.
    """
    with output.progress() as report:
        done = asyncio.run(control.remove(folders(), name, report))
    if json:
        output.as_json(done)
        return
    output.console.print(
        Text(name, "bold").append(f" is removed; {shown.connections(done)}", "not bold")
    )
    shown.tell_left(done)
