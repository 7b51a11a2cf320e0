"""``mizzen collect``: free what nothing refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from mizzen.control import collect as control
from mizzen.control.collect import Item
from mizzen.host.paths import folders

from . import output


def collect(
    *,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Free addresses, links, machines and publications that nothing refers to.

    What is live, drains or is being rolled out stays, and what was made by hand. Releases that
    failed are kept for a day.

    Parameters
    ----------
    dry_run
        Only say what would be freed.
    json
        Print what was freed and what stays as JSON.
    """
    with output.progress() as report:
        plan = asyncio.run(control.collect(folders(), report, dry_run=dry_run))
    if json:
        output.as_json(plan)
        return
    done = "would be freed" if dry_run else "freed"
    output.table(
        ("WHAT", "NAME", "", "WHY"),
        [
            *_rows(plan.free, Text(done, "yellow" if dry_run else "green")),
            *_rows(plan.keep, Text("stays", "dim")),
        ],
        "There is nothing to free, and nothing that could be.",
    )


def _rows(items: Iterable[Item], done: Text) -> list[tuple[str, Text, Text, str]]:
    return [(item.kind.value, Text(item.name, "bold"), done, item.why) for item in items]
