"""``mizzen collect``: free what nothing refers to."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from mizzen.control import collect as control
from mizzen.host.paths import folders

from . import freed, output


def collect(
    *,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Free addresses, links, machines, publications and built files that nothing refers to.

    What is live, drains or is being rolled out stays, and what was made by hand. Releases that
    failed are kept for a day, and what was built for a day after it was asked for last.

    Parameters
    ----------
    dry_run
        Only say what would be freed.
    json
        Print what was freed and what stays as JSON.
    """
    with output.progress() as report:
        plan = asyncio.run(control.collect(folders(), report, dry_run=dry_run))
    nothing = "There is nothing to free, and nothing that could be."
    freed.show(plan, dry_run=dry_run, json=json, nothing=nothing)
