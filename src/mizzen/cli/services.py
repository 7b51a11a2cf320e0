"""How services and rollouts are shown."""

from __future__ import annotations

from rich.text import Text

from mizzen.control.publish import View
from mizzen.model.network import Transport
from mizzen.model.service import (
    Probe,
    ProbeKind,
    Release,
    ReleaseState,
    RolloutReport,
    ServicePort,
    ServiceReport,
)

from . import output

COLOURS = {
    ReleaseState.STARTING: "yellow",
    ReleaseState.LIVE: "green",
    ReleaseState.DRAINING: "yellow",
    ReleaseState.RETIRED: "dim",
    ReleaseState.FAILED: "red",
}


def tell(done: RolloutReport, *, json: bool) -> None:
    """Print what a rollout did."""
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
        tell_left(one)


def _steps(one: ServiceReport) -> list[str]:
    steps = one.steps
    return [
        _seconds(steps.start),
        f"{_seconds(steps.probe)}, {one.attempts}x",
        *map(_seconds, (steps.switch, steps.drain, steps.retire)),
    ]


def tell_left(done: ServiceReport) -> None:
    """Print what runs on although nothing leads to it any more."""
    for name in done.left_running:
        line = f"{name} runs on: Mizzen did not start it, or another service leads to it"
        if done.left:
            line += f"; {done.left} connections to it go on"
        output.console.print(Text(line), soft_wrap=True)


def connections(done: ServiceReport) -> str:
    """Say what became of connections."""
    return f"of {done.in_flight} connections {done.drained} ended, {done.dropped} were dropped"


def _seconds(step: float) -> str:
    return f"{step * 1000:.0f} ms" if step < 1 else f"{step:.1f} s"


def port(one: ServicePort) -> str:
    """Return a port as it is written on the command line."""
    host = f"[{one.address}]" if ":" in one.address else one.address
    text = f"{host}:{one.port}:{one.target_port}".removeprefix(":")
    return text if one.transport is Transport.TCP else f"{text}/{one.transport}"


def place(release: Release) -> str:
    """Return a release's number and where it is."""
    return f"{release.number} ({release.machine or ', '.join(release.addresses)})"


def what(release: Release) -> str:
    """Return where a release is, and what it is made of."""
    where = release.machine or ", ".join(release.addresses)
    if release.origin:
        return f"{where}, repeats {release.origin}"
    return f"{where}, of {release.source}" if release.source else where


def current(view: View) -> Text:
    """Return what is being rolled out, or has failed."""
    one = view.current
    if one is None:
        return Text(f"process {view.busy} changes it" if view.busy else "", "yellow")
    if one.state is ReleaseState.STARTING and not view.busy:
        return Text(f"{place(one)} was cut off", "red")
    return Text(f"{place(one)} {one.state}", COLOURS[one.state])


def probe(one: Probe) -> str:
    """Return a probe as it is written on the command line, with its bounds."""
    at = f" at port {one.port}" if one.port else ""
    tries = f"every {one.interval:g} s, {one.attempts} times, {one.timeout:g} s each"
    match one.kind:
        case ProbeKind.HTTP:
            holds = f" holding {one.contains!r}" if one.contains else ""
            return f"http:{one.path}{at} answers {one.status}{holds}; {tries}"
        case ProbeKind.TCP:
            return f"tcp{at}; {tries}"
        case ProbeKind.COMMAND:
            return f"command:{one.command}; {tries}"
        case ProbeKind.NONE:
            return "none"
