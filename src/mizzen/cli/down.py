"""``mizzen down``: end what a pipeline has made."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from mizzen.control import down as control
from mizzen.host.paths import folders

from . import freed, output


def down(
    pipeline: str,
    /,
    *,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """End and free what a pipeline has made: services, edges, machines and addresses.

    Connections to its services are drained first. What another pipeline has taken over stays, as
    after a new name, and its jobs stay listed. Interrupted, the same command goes on.

    Parameters
    ----------
    pipeline
        Its name; no mizzen up may run it.
    dry_run
        Only say what would be freed.
    json
        Print what was freed and what stays as JSON.
    """
    with output.progress() as report:
        plan = asyncio.run(control.down(folders(), pipeline, report, dry_run=dry_run))
    freed.show(plan, dry_run=dry_run, json=json, nothing="There is nothing left of it to free.")
