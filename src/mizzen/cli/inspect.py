"""``mizzen inspect``: what a guest's kernel knows, told from its memory alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from mizzen.control import inspect as control
from mizzen.control.inspect import SECTIONS, Report
from mizzen.host import capabilities
from mizzen.host.capabilities import Capability
from mizzen.host.paths import folders
from mizzen.introspection.views.log import Record
from mizzen.introspection.views.processes import Process
from mizzen.introspection.views.sockets import Socket

from . import output

Section = Literal["system", "memory", "processes", "mounts", "sockets", "log"]
FEW = 12
"""Lines of a list that the overview shows."""
UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
SPANS = ((86400, "d"), (3600, "h"), (60, "min"))
INNER = frozenset(
    (
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
        *("devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "proc", "pstore", "ramfs"),
        *("securityfs", "sysfs", "tracefs"),
    )
)
"""File systems of the kernel's own, which the overview leaves out."""

Row = Sequence[str]


def inspect(
    target: str,
    /,
    *sections: Section,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Show a guest's processes, log, memory, mounts and sockets without entering it.

    Only its memory is read: nothing runs in the guest and nothing in it changes, so this also
    works on a guest that hangs or has panicked, and on a dump of one. What cannot be told is said
    with the reason; the rest is shown.

    Parameters
    ----------
    target
        A machine's name, incident/ID, pid:N for anybody's hypervisor, or file:PATH for a dump.
    sections
        What to show in full: system, memory, processes, mounts, sockets, log; by default the most
        of each.
    json
        Print one JSON object.
    """

    def confine() -> None:
        capabilities.keep_only(Capability.SYS_PTRACE)

    asked = tuple(dict.fromkeys(sections))
    with control.opened(target, folders(), confine) as guest:
        report = control.report(guest, asked or SECTIONS)
    if json:
        output.as_json(report)
    else:
        _show(report, target, asked)
    return 1 if asked and all(name in report.missing for name in asked) else 0


def _show(report: Report, target: str, asked: tuple[str, ...]) -> None:
    """Show the sections one below the other. asked: those to show in full; none: an overview."""
    if not asked:
        output.console.print(Text(_printable(report.name), style="bold"), soft_wrap=True)
    shown = {
        "system": _system,
        "memory": _memory,
        "processes": _processes,
        "mounts": _mounts,
        "sockets": _sockets,
        "log": _log,
    }
    for name in asked or SECTIONS:
        if len(asked) > 1 or (not asked and name not in {"system", "memory"}):
            output.console.print()
            output.console.print(Text(name, style="bold"))
        if name in report.missing:
            why = f"cannot be told: {report.missing[name]}"
            output.console.print(Text(f"{_label(name, asked)}{_printable(why)}"), soft_wrap=True)
            continue
        left = shown[name](report, few=not asked)
        if left:
            line = f"{left} more: mizzen inspect {target} {name}"
            output.console.print(Text(_printable(line), style="dim"), soft_wrap=True)
        if name in report.incomplete:
            line = f"there may be more: {report.incomplete[name]}"
            output.console.print(Text(_printable(line), style="yellow"), soft_wrap=True)


def _label(name: str, asked: tuple[str, ...]) -> str:
    return f"  {name:<14}" if not asked and name in {"system", "memory"} else ""


def _system(report: Report, *, few: bool) -> int:
    del few
    system = report.system
    if system is None:
        return 0
    load = " ".join(f"{value:.2f}" for value in system.load or ())
    facts = {
        "release": system.release,
        "version": system.version,
        "host name": system.hostname,
        "command line": system.command_line,
        "up": _span(system.uptime),
        "clock": output.clock(system.clock) if system.clock is not None else None,
        "CPUs": str(system.cpus) if system.cpus is not None else None,
        "load": load or None,
        "taints": system.taints or None,
    }
    for name, value in facts.items():
        if value:
            _fact(name, Text(_printable(value)))
    if system.panic:
        _fact("panicked", Text(_printable(system.panic), style="bold red"))
    for name, why in system.missing.items():
        _fact(name.replace("_", " "), Text(_printable(f"cannot be told: {why}"), style="dim"))
    return 0


def _fact(name: str, value: Text) -> None:
    output.console.print(Text.assemble((f"  {name:<14}", "dim"), value), soft_wrap=True)


def _memory(report: Report, *, few: bool) -> int:
    memory = report.memory
    if memory is None:
        return 0
    sizes = {
        "memory": memory.total,
        "free": memory.free,
        "available": memory.available,
        "files, cached": memory.cached,
        "shared": memory.shared,
        "anonymous": memory.anonymous,
        "slab": memory.slab,
        "swap": memory.swap_total,
        "swap, free": memory.swap_free,
    }
    if few:
        parts = ("free", "available", "files, cached", "slab")
        text = ", ".join(f"{_size(sizes[name])} {name.replace(', ', ' ')}" for name in parts)
        _fact("memory", Text(f"{_size(memory.total)}: {text}"))
        return 0
    for name, size in sizes.items():
        if size:
            _fact(name, Text(f"{_size(size):>10}"))
    return 0


def _processes(report: Report, *, few: bool) -> int:
    found = report.processes or ()
    chosen = list(found)
    if few:
        chosen = [one for one in found if not one.kernel or one.state == "D"]
        chosen.sort(key=lambda one: one.resident or 0, reverse=True)
        chosen = sorted(chosen[:FEW], key=lambda one: one.pid)
    _columns(
        ("PID", "PPID", "UID", "S", "THR", "RSS", "COMMAND"),
        [_process_row(one) for one in chosen],
    )
    return len(found) - len(chosen)


def _process_row(one: Process) -> Row:
    command = " ".join(one.command) if one.command else f"[{one.name}]"
    memory = _size(one.resident) if one.resident is not None else ""
    return (str(one.pid), str(one.parent), str(one.uid), one.state, str(one.threads), memory,
            command)  # fmt: skip


def _mounts(report: Report, *, few: bool) -> int:
    found = report.mounts or ()
    chosen = [one for one in found if not few or one.type not in INNER][: FEW if few else None]
    rows = [(one.target, one.type, ",".join(one.options), one.source) for one in chosen]
    _columns(("TARGET", "TYPE", "OPTIONS", "SOURCE"), rows)
    return len(found) - len(chosen)


def _sockets(report: Report, *, few: bool) -> int:
    found = report.sockets or ()
    chosen = list(islice(filter(_of_interest, found), FEW)) if few else list(found)
    _columns(
        ("KIND", "STATE", "LOCAL", "REMOTE", "PROCESS"),
        [
            (one.kind, one.state, one.local, one.remote, f"{one.process} {one.pid}")
            for one in chosen
        ],
    )
    return len(found) - len(chosen)


def _of_interest(one: Socket) -> bool:
    return not one.kind.startswith(("unix", "netlink"))


def _log(report: Report, *, few: bool) -> int:
    found = report.log or ()
    chosen = found[-FEW:] if few else found
    for record in chosen:
        for line in _log_lines(record):
            _print(line, cut=few)
    return len(found) - len(chosen)


def _log_lines(record: Record) -> Iterator[Text]:
    style = ""
    if record.level is not None and record.level < 4:
        style = "red"
    elif record.level == 4:
        style = "yellow"
    for text in record.text.split("\n"):
        stamp = f"[{record.time:12.6f}] "
        yield Text.assemble((stamp, "dim"), (_printable(text), style))


def _columns(heads: Row, rows: Sequence[Row]) -> None:
    """Print rows under their heads; the last column may be cut by a terminal's edge."""
    if not rows:
        output.console.print(Text("none", style="dim"))
        return
    clean = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *clean, strict=True)]
    right = {"PID", "PPID", "UID", "THR", "RSS"}

    def line(row: Row) -> str:
        cells = (
            f"{cell:>{width}}" if head in right else f"{cell:<{width}}"
            for head, width, cell in zip(heads, widths, row, strict=True)
        )
        return "  ".join(cells).rstrip()

    _print(Text(line(heads), style="dim"), cut=True)
    for row in clean:
        _print(Text(line(row)), cut=True)


def _print(line: Text, *, cut: bool) -> None:
    """Print a line; cut: at a terminal's edge, rather than going on in the next line."""
    if cut and output.console.is_terminal:
        output.console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    else:
        output.console.print(line, soft_wrap=True)


def _size(count: int | None) -> str:
    if count is None:
        return ""
    for unit, name in UNITS:
        if count >= unit:
            value = count / unit
            return f"{value:.1f} {name}" if value < 10 else f"{value:.0f} {name}"
    return f"{count} B"


def _span(seconds: float | None) -> str | None:
    """Return a duration in its two largest units."""
    if seconds is None:
        return None
    parts: list[str] = []
    left = int(seconds)
    for size, name in SPANS:
        if left >= size or parts:
            parts.append(f"{left // size} {name}")
            left %= size
    parts.append(f"{left} s")
    return " ".join(parts[:2])


def _printable(text: str) -> str:
    """Return a text that cannot steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
