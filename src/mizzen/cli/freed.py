"""How commands show what they have freed, and what stays."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from mizzen.control.collect import Item, Plan

from . import output


def show(plan: Plan, *, dry_run: bool, json: bool, nothing: str) -> None:
    """Print a plan that was carried out, or would be. nothing: printed if it is empty."""
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
        nothing,
    )


def _rows(items: Iterable[Item], done: Text) -> list[tuple[str, Text, Text, str]]:
    return [(item.kind.value, Text(item.name, "bold"), done, item.why) for item in items]
