"""The rows of the matrix."""

from __future__ import annotations

from dataclasses import dataclass

from . import pairwise
from .kernels import BUILT, STOCK
from .states import STATES, SYSTEMD

MACHINES = ("microvm", "q35", "pc")
UEFI = "q35 UEFI"
EDGES = (("pc", 3500), ("pc", 3584), ("q35", 2800), ("q35", 2816), ("microvm", 3584))
"""MiB up to which each machine of QEMU has RAM in one piece, and a little more (hw/i386)."""

VCPUS = (1, 2, 8)
MEMORY = (128, 1024, 5120)
"""MiB; above some 3 GiB, RAM lies around a hole below 4 GiB."""

BACKINGS = ("anonymous", "shared file", "memfd", "disk file")
"""Besides there is "two memfds": two NUMA nodes with half of RAM each."""

PROCESSORS = ("max", "max,la57=off", "max,smep=off,smap=off", "qemu64")
"""-cpu. ``max`` has five levels of page tables, SMEP and SMAP. No model has IBT under TCG."""

MAIN = ("5.10 cloud", "6.1 cloud", "6.12 cloud", "7.3 cloud")
"""Kernels that everything else is tried with: of each generation the smallest download."""

QUICK = ("idle", "busy", "read-only root", "nothing mounted")
"""States that a guest is soon in."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row. memory: MiB. parameters: for the guest's kernel.

    refusal: words of the Failure where attach cannot work, "" where it does.
    """

    kernel: str
    machine: str = "microvm"
    vcpus: int = 1
    memory: int = 256
    backing: str = "anonymous"
    processor: str = "max"
    state: str = "idle"
    parameters: str = ""
    refusal: str = ""

    @property
    def name(self) -> str:
        """Return what tells the case from all others, in the order of the table's columns."""
        words = (
            self.kernel,
            f"{self.machine}",
            f"{self.vcpus} vCPU",
            f"{self.memory} MiB {self.backing}",
            self.processor,
            self.state,
            self.parameters,
        )
        return ", ".join(word for word in words if word)


PAIRS = tuple(
    Case(**row)  # type: ignore[arg-type]
    for row in pairwise.rows(
        {
            "kernel": MAIN,
            "machine": MACHINES,
            "vcpus": VCPUS,
            "memory": MEMORY,
            "backing": BACKINGS,
            "processor": PROCESSORS,
            "state": QUICK,
        }
    )
)
"""What CI tries: every two choices meet."""

REFUSALS = {
    "6.12 no KALLSYMS": "no symbol table of a running kernel",
    "6.12 no pagemap": "CONFIG_PROC_PAGE_MONITOR",
}

STATE_REFUSALS = {"paused": "handled no softirq", "panicked": "handled no softirq"}
SCATTERED = "mappings do not agree with the guest's own map of its RAM"

OTHERS = (
    *(Case(name) for name in STOCK),
    *(Case(name, refusal=REFUSALS.get(name, "")) for name in BUILT),
    *(Case(name, parameters="pti=on") for name in ("5.10 cloud", "6.1 cloud", "6.12 cloud")),
    Case("6.12 cloud", memory=5120, parameters="pti=on"),
    *(Case(name, parameters="nokaslr") for name in ("6.12 cloud", "7.3 cloud")),
    *(Case(name, UEFI, memory=memory) for name in MAIN for memory in (256, 5120)),
    *(Case("6.12 cloud", machine, memory=memory) for machine, memory in EDGES),
    *(
        Case(name, "q35", memory=1024, backing="two memfds", refusal=SCATTERED)
        for name in ("6.1 cloud", "7.3 cloud")
    ),
    *(
        Case(
            *(name, "microvm", 1, 1024 if state == SYSTEMD else 256),
            state=state,
            refusal=STATE_REFUSALS.get(state, ""),
        )
        for state in STATES
        if state not in QUICK
        for name in ("6.1 cloud", "6.12 cloud")
    ),
)

CASES = tuple(dict.fromkeys((*PAIRS, *OTHERS)))
