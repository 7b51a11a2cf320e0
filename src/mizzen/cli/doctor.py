"""``mizzen doctor``: what this host can do, what it lacks, and the command that mends it."""

from __future__ import annotations

import asyncio

from rich.text import Text

from mizzen.control.doctor import Finding, Level, examine, kvm_remembered, ready
from mizzen.host.paths import folders, guest_binary

from . import output

MARKS = {
    Level.OK: Text("✓", style="green"),
    Level.WARNING: Text("!", style="yellow"),
    Level.MISSING: Text("✗", style="bold red"),
}
GUEST_PROGRAMS = ("init", "stage1.bin", "stage2")


def doctor(*, json: bool = False) -> int:
    """Say what this host can do, what it lacks, and the command that mends it.

    Exits with 0 if Mizzen can run its demo here, with 1 if something it needs is missing.

    Parameters
    ----------
    json
        Print one JSON object.
    """
    programs = [guest_binary(name) for name in GUEST_PROGRAMS]
    place = folders()
    findings = asyncio.run(examine(place, programs, kvm_runs=kvm_remembered(place)))
    if json:
        output.as_json({"ready": ready(findings), "findings": findings})
    else:
        _show(findings)
    return 0 if ready(findings) else 1


def _show(findings: list[Finding]) -> None:
    width = max(len(finding.item) for finding in findings)
    for finding in findings:
        line = Text.assemble(MARKS[finding.level], f"  {finding.item:{width}}  {finding.fact}")
        output.console.print(line, soft_wrap=True)
        if finding.mend:
            line = Text(" " * (width + 5) + f"→ {finding.mend}", style="dim")
            output.console.print(line, soft_wrap=True)
    missing = [finding.item for finding in findings if finding.level is Level.MISSING]
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    output.console.print()
    if missing:
        output.console.print(f"Missing: {', '.join(missing)}.", style="bold")
    elif warnings:
        output.console.print("Mizzen can run its demo here, within the limits marked !.")
    else:
        output.console.print("Mizzen can run its demo here.")
