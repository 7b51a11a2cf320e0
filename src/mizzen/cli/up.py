"""``mizzen up``: keep the world as a pipeline file says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from mizzen.control.settings import read_settings
from mizzen.daemon.up import Options
from mizzen.daemon.up import up as serve
from mizzen.engine import planning
from mizzen.engine.clock import HostClock
from mizzen.engine.drawing import dot, draw
from mizzen.engine.graph import Graph
from mizzen.engine.layout import Layouts
from mizzen.engine.picture import svg
from mizzen.engine.pipeline import load
from mizzen.engine.planning import Change, Planned
from mizzen.engine.policy import Level
from mizzen.host.files import explained
from mizzen.host.paths import folders
from mizzen.model.errors import UsageError
from mizzen.store.database import connect_to_read

from . import output
from .up_shown import JsonLines, Lines, Live, Shown

CHANGES = {
    Change.MADE: "yellow",
    Change.SET: "yellow",
    Change.SET_ANEW: "yellow",
    Change.DEPENDS: "dim yellow",
    Change.FAILS: "bold red",
    Change.LEFT: "yellow",
    Change.SAME: "dim",
}


def up(
    file: Path,
    /,
    *,
    confirm: Level | None = None,
    listen: Annotated[str, Parameter(name="--listen")] = "",
    plan: Annotated[bool, Parameter(negative=())] = False,
    graph: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Keep the world as the pipelines of a file say, until interrupted.

    One runs for each state folder. What it was at goes on when it is started again, also after it
    was killed; machines and published ports stay meanwhile. See mizzen jobs for what it does.

    Parameters
    ----------
    file
        A Python file with functions under @pipeline.
    confirm
        Let jobs of this level and above wait until mizzen jobs start releases them: harmless reads,
        low makes what nobody uses yet, medium starts something, high changes what users see,
        dangerous may lose something.
    listen
        HOST:PORT at which /metrics, /pipelines and /webhooks/git answer besides; nothing can be
        changed there.
    plan
        Only say which machines, addresses, ports and images would change. Sources are looked at.
    graph
        Only write the graph as it is before anything ran: .svg, .dot or .json.
    json
        Print each change, or the plan, as JSON.
    """
    place = _place(listen) if listen else None
    if graph is not None and (plan or graph.suffix not in {".svg", ".dot", ".json"}):
        raise UsageError(
            f"cannot write the graph to {graph}",
            "--plan prints something else" if plan else "its name does not say in which form",
            "give --graph FILE.svg, FILE.dot or FILE.json",
        )
    graphs = load(file)
    if graph is not None:
        _write(graphs, graph)
    elif plan:
        _plan(graphs, json=json)
    else:
        shown = JsonLines() if json else Live(graphs) if output.console.is_terminal else Lines()
        secret = read_settings().webhooks.secret
        asyncio.run(_up(graphs, Options(folders(), confirm, place, secret), shown))


async def _up(graphs: Sequence[Graph], options: Options, shown: Shown) -> None:
    with shown:
        await serve(graphs, options, on_change=shown.change, on_ready=lambda: _tell_ready(graphs))


def _tell_ready(graphs: Sequence[Graph]) -> None:
    told = [
        f"{graph.name}: {sum(term.drawn for term in graph.terms.values())} steps"
        for graph in graphs
    ]
    output.note(f"{', '.join(told)}; Ctrl-C ends it")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
    except ValueError as error:
        raise UsageError(
            f"cannot listen at {text}",
            "that is no address with a port",
            "write one such as 127.0.0.1:9180 or [::1]:9180",
        ) from error
    return host, int(port)


def _write(graphs: Sequence[Graph], file: Path) -> None:
    what = f"cannot write the graph to {file}"
    if len(graphs) > 1 and file.suffix == ".svg":
        names = ", ".join(graph.name for graph in graphs)
        raise UsageError(what, f"there are several: {names}", "ask for .dot or .json")
    for graph in graphs:
        graph.settle()
    drawings = [draw(graph) for graph in graphs]
    if file.suffix == ".json":
        data = output.json_text(drawings)
    elif file.suffix == ".dot":
        data = "".join(map(dot, drawings))
    else:
        layout = asyncio.run(Layouts().find(drawings[0]))
        data = svg(drawings[0], layout)
    with explained(what):
        file.write_text(data)


def _plan(graphs: Sequence[Graph], *, json: bool) -> None:
    where = folders()
    with closing(connect_to_read(where.database)) as connection:
        found = asyncio.run(planning.plan(graphs, connection, where, HostClock()))
    if json:
        output.as_json(found)
        return
    changing = [one for one in found if one.change is not Change.SAME]
    output.table(
        ("WHAT", "STEP", "", "WHY", "WHERE"),
        [_row(one) for one in changing],
        "Nothing would change." if found else "There is nothing that could change.",
    )
    if changing and len(found) > len(changing):
        output.console.print(f"{len(found) - len(changing)} more stay as they are", style="dim")


def _row(one: Planned) -> tuple[str, Text, Text, str, Text]:
    change = Text(one.change, CHANGES[one.change])
    where = one.where.rpartition("/")[2]
    return one.noun, Text(one.label, "bold"), change, one.why, Text(where, "dim")
