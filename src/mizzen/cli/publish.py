"""``mizzen publish``: services, and rolling out new releases of them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.control import publish as control
from mizzen.control import services
from mizzen.control.publish import View
from mizzen.host.paths import folders
from mizzen.model.network import Transport
from mizzen.model.service import (
    Probe,
    ProbeKind,
    Release,
    ReleaseState,
    RolloutReport,
    Service,
    ServicePort,
    ServiceReport,
)

from . import output

app = App(name="publish", help="Publish services, and switch to new releases of them.")

Json = Annotated[bool, Parameter(name="--json", negative="")]

COLOURS = {
    ReleaseState.STARTING: "yellow",
    ReleaseState.LIVE: "green",
    ReleaseState.DRAINING: "yellow",
    ReleaseState.RETIRED: "dim",
    ReleaseState.FAILED: "red",
}


@app.command
def add(
    name: str,
    target: str,
    /,
    *,
    port: Annotated[tuple[str, ...], Parameter(negative=())],
    address: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    ready: str = "tcp",
    ready_port: int = 0,
    expect_status: int = 200,
    expect: str = "",
    interval: float = 1.0,
    timeout: float = 5.0,
    attempts: int = 60,
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
    ready
        How a release shows that it is ready: http:/PATH, tcp, command:COMMAND (run by the
        shell, with MIZZEN_ADDRESS and MIZZEN_PORT) or none.
    ready_port
        The release's port to probe; by default its first TCP port.
    expect_status
        The status that http:/PATH is answered with.
    expect
        What the answer's body holds.
    interval
        Seconds from one attempt to the next.
    timeout
        Seconds that an attempt may take.
    attempts
        After as many, the release has failed.
    drain
        Seconds that connections to the release before may go on after a switch.
    json
        Print the rollout's report as JSON.
    """
    base = Probe(
        port=ready_port,
        status=expect_status,
        contains=expect,
        interval=interval,
        timeout=timeout,
        attempts=attempts,
    )
    service = Service(
        services.check_name(name),
        services.parse_ports(port, address),
        services.check_probe(services.parse_probe(ready, base)),
        services.check_drain(drain),
    )
    with output.progress() as report:
        done = asyncio.run(control.add(folders(), service, target, report))
    _tell(done, json=json)


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
    _tell(done, json=json)


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
    _tell(done, json=json)


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
                " ".join(map(_port, view.service.ports)),
                _place(view.live) if view.live else Text("nothing", "red"),
                output.clock(view.live.live_since) if view.live and view.live.live_since else "",
                _current(view),
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
        ("ports", " ".join(map(_port, view.service.ports))),
        ("ready", _probe(view.service.probe)),
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
                Text(release.state, COLOURS[release.state]),
                _what(release),
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
        Text(name, "bold").append(f" is removed; {_connections(done)}", "not bold")
    )
    _tell_left(done)


def _tell(done: RolloutReport, *, json: bool) -> None:
    if json:
        output.as_json(done)
        return
    output.table(
        ("SERVICE", "LIVE", "BEFORE", "IN FLIGHT", "DRAINED", "DROPPED"),
        [
            (
                Text(one.service, "bold"),
                str(one.number),
                str(one.before or ""),
                str(one.in_flight),
                str(one.drained),
                Text(str(one.dropped), "red" if one.dropped else ""),
            )
            for one in done.services
        ],
        "",
    )
    output.console.print()
    output.table(
        ("SERVICE", "START", "PROBE", "SWITCH", "DRAIN", "RETIRE"),
        [(Text(one.service, "bold"), *_steps(one)) for one in done.services],
        "",
    )
    for one in done.services:
        _tell_left(one)


def _steps(one: ServiceReport) -> list[str]:
    steps = one.steps
    return [
        _seconds(steps.start),
        f"{_seconds(steps.probe)}, {one.attempts}x",
        *map(_seconds, (steps.switch, steps.drain, steps.retire)),
    ]


def _tell_left(done: ServiceReport) -> None:
    for name in done.left_running:
        line = f"{name} runs on: Mizzen did not start it"
        if done.left:
            line += f"; {done.left} connections to it go on"
        output.console.print(Text(line), soft_wrap=True)


def _connections(done: ServiceReport) -> str:
    return f"of {done.in_flight} connections {done.drained} ended, {done.dropped} were dropped"


def _seconds(step: float) -> str:
    return f"{step * 1000:.0f} ms" if step < 1 else f"{step:.1f} s"


def _port(port: ServicePort) -> str:
    host = f"[{port.address}]" if ":" in port.address else port.address
    text = f"{host}:{port.port}:{port.target_port}".removeprefix(":")
    return text if port.transport is Transport.TCP else f"{text}/{port.transport}"


def _place(release: Release) -> str:
    return f"{release.number} ({release.machine or ', '.join(release.addresses)})"


def _what(release: Release) -> str:
    place = release.machine or ", ".join(release.addresses)
    if release.origin:
        return f"{place}, repeats {release.origin}"
    return f"{place}, of {release.source}" if release.source else place


def _current(view: View) -> Text:
    one = view.current
    if one is None:
        return Text(f"process {view.busy} changes it" if view.busy else "", "yellow")
    if one.state is ReleaseState.STARTING and not view.busy:
        return Text(f"{_place(one)} was cut off", "red")
    return Text(f"{_place(one)} {one.state}", COLOURS[one.state])


def _probe(probe: Probe) -> str:
    port = f" at port {probe.port}" if probe.port else ""
    tries = f"every {probe.interval:g} s, {probe.attempts} times, {probe.timeout:g} s each"
    match probe.kind:
        case ProbeKind.HTTP:
            holds = f" holding {probe.contains!r}" if probe.contains else ""
            return f"http:{probe.path}{port} answers {probe.status}{holds}; {tries}"
        case ProbeKind.TCP:
            return f"tcp{port}; {tries}"
        case ProbeKind.COMMAND:
            return f"command:{probe.command}; {tries}"
        case ProbeKind.NONE:
            return "none"
