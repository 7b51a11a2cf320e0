"""What the matrix's tests found, kept from run to run, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import msgspec

from .cases import Case

WORKS = "works"
REFUSED = "refused"

HEAD = """# Where attach was tried

Written by `./run test --matrix --matrix-report` from what the tests found; not edited by hand.
Each row is one test in `tests/matrix/`: a guest that QEMU boots without Mizzen is entered twice, a
command's output and status come back, and the guest lives on and has logged nothing new. Where
attach cannot work, the test is that the refusal names the fact. "To output" is the seconds from
the start of `mizzen attach` to the first output of its command; it is told, not judged: two cores,
and no KVM. `pairs` marks the rows in which every two choices meet, which CI runs.

No row has indirect branch tracking (IBT): QEMU 7.2 has no such property, and in 11.1, whose
`cet-ibt` is for KVM, "TCG doesn't support requested feature". By hand, Linux 6.12 with IBT on was
entered twice in Bochs 3.0, whose `tigerlake` has it, and died of "Missing ENDBR" when our `endbr64`
were taken out. That Bochs was built to hold RAM in one piece; by default it holds blocks of it in
the order of their first use, which is refused.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One case's result, as its line of the page. date: year-month-day."""

    kernel: str
    release: str
    machine: str
    vcpus: str
    memory: str
    processor: str
    state: str
    outcome: str
    seconds: str
    pairs: str
    date: str
    mizzen: str
    qemu: str


TITLES = (
    "kernel", "release", "machine", "vCPUs", "RAM, MiB", "-cpu", "guest", "outcome", "to output, s",
    "", "date", "Mizzen", "QEMU",
)  # fmt: skip


def row(
    case: Case, *, outcome: str, release: str, seconds: float | None, pairs: bool, **ran: str
) -> Row:
    """Return a case's row. ran: date, mizzen and qemu."""
    return Row(
        kernel=f"{case.kernel}, {case.parameters}" if case.parameters else case.kernel,
        release=release,
        machine=case.machine,
        vcpus=str(case.vcpus),
        memory=f"{case.memory} {case.backing}",
        processor=case.processor,
        state=case.state,
        outcome=clean(outcome),
        seconds="" if seconds is None else f"{seconds:.1f}",
        pairs="pairs" if pairs else "",
        **ran,
    )


def clean(text: str) -> str:
    """Return text that fits a table's cell."""
    return re.sub(r"\s+", " ", text.replace("|", "/"))[:160].strip()


def render(rows: Iterable[Row]) -> str:
    """Return the page."""
    table = [TITLES, ("---",) * len(TITLES), *(tuple(asdict(row).values()) for row in rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join([HEAD, *lines, ""])


def parse(page: str) -> list[Row]:
    """Read a page's rows back."""
    lines = [line for line in page.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Row(**dict(zip((f.name for f in fields(Row)), one, strict=True))) for one in cells]


class Store:
    """Results by the case's name, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, Row]:
        if not self._path.exists():
            return {}
        return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Row])

    def add(self, name: str, found: Row) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(msgspec.json.encode({**self.all(), name: found}))
