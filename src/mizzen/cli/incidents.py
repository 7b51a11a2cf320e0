"""``mizzen incidents``: what was noticed."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.control import incidents as control
from mizzen.host.paths import folders
from mizzen.model.incident import Incident, IncidentKind

from . import output

app = App(name="incidents", help="Show the errors that were noticed, and enter their machines.")

Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command(name="list")
def list_(source: str | None = None, *, json: Json = False) -> None:
    """List incidents, the one seen last first.

    Parameters
    ----------
    source
        Only those of this machine ("hello"), VM ("vm 2") or unit ("unit NAME").
    json
        Print JSON instead of a table.
    """
    found = control.all_incidents(folders(), source)
    if json:
        output.as_json(found)
        return
    output.table(
        ["ID", "Last seen", "Times", "Source", "Error"],
        [
            [
                Text(str(one.id), style="bold"),
                Text(output.clock(one.last_seen), style="dim"),
                Text(str(one.count), justify="right"),
                Text(one.source, style="cyan"),
                one.message,
            ]
            for one in found
        ],
        empty="no errors were noticed; mizzen watch notices them",
    )


@app.command
def show(number: Annotated[int, Parameter(name="ID")], /, *, json: Json = False) -> None:
    """Show one incident with the lines of its first occurrence.

    Parameters
    ----------
    number
        The incident's id, as mizzen incidents list shows it.
    json
        Print JSON.
    """
    found = control.incident(folders(), number)
    if json:
        output.as_json(found)
    else:
        _show(found)


def _show(one: Incident) -> None:
    output.console.print(Text(one.message, style="bold"), soft_wrap=True)
    first = output.clock(one.first_seen)
    times = "once" if one.count == 1 else f"{one.count} times, last {output.clock(one.last_seen)}"
    for name, value in (
        ("source", one.source),
        ("kind", one.kind.value),
        ("first seen", first),
        ("seen", times),
        ("fingerprint", one.fingerprint),
    ):
        output.console.print(Text(f"  {name:<12}", style="dim").append(value, style="not dim"))
    output.console.print()
    for line in one.lines:
        output.console.print(Text(f"  {line}"), soft_wrap=True)
    if can_enter(one):
        output.console.print()
        output.console.print(Text(f"mizzen incidents enter {one.id}", style="dim"))


def can_enter(one: Incident) -> bool:
    """Whether there may be a guest to enter: not where it has ended, or was never named."""
    return one.kind is not IncidentKind.EXIT and not one.source.startswith("unit ")


@app.command
def enter(
    number: Annotated[int, Parameter(name="ID")],
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
) -> int:
    """Open a shell in the guest that an incident happened in, or run a command there.

    Exits with the command's own status.

    Parameters
    ----------
    number
        The incident's id.
    command
        What to run instead of a shell, after --.
    """
    place = folders()
    target = control.target(place, control.incident(place, number))
    from mizzen.control import (  # type: ignore[attr-defined]  # noqa: PLC0415 - heavy, and of no use to the others
        attach,
    )

    status: int = attach.enter(target, command)
    return status
