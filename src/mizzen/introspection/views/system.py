"""What there is one of in a guest: its release, uptime, load, and whether it has panicked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import Object, Objects
from mizzen.introspection.memory.physical import BadAddress

from . import log

LOAD_SHIFT = 11
"""FSHIFT, include/linux/sched/loadavg.h."""
NO_CPU = 0xFFFF_FFFF
"""PANIC_CPU_INVALID."""
COMMAND_LINE = ("Kernel command line: ", "Command line: ")
CLOCK_MAX = 2.5e11
"""Seconds; some years before the year 10000, with which calendars end."""
PANIC = "Kernel panic - not syncing: "
TAINTS = "GFSRMBUDAWCIOELKXTNJ"
"""Letters of the bits of tainted_mask, but that G is P when set; kernel/panic.c."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class System:
    """What cannot be had is None; missing tells why, by the field's name.

    version: as ``uname -v``. uptime: in seconds, as of the guest's last clock tick. clock: the
    same, in seconds since 1970. load: over 1, 5 and 15 minutes. panic: why the kernel panicked,
    "" if it has not. taints: letters as in an oops, "" if there are none.
    """

    release: str
    version: str | None
    hostname: str | None
    command_line: str | None
    uptime: float | None
    clock: float | None
    cpus: int | None
    load: tuple[float, ...] | None
    panic: str | None
    taints: str | None
    missing: dict[str, str]


def system(objects: Objects) -> System:
    """Return what can be had; this much always can."""
    missing: dict[str, str] = {}

    def had(name: str, read: Callable[[Objects], T]) -> T | None:
        try:
            return read(objects)
        except (Unknown, BadAddress) as error:
            missing[name] = str(error)
            return None

    clocks = had("uptime", _clocks)
    return System(
        release=objects.kernel.release,
        version=had("version", lambda o: _names(o).text("version")),
        hostname=had("hostname", lambda o: _names(o).text("nodename")),
        command_line=had("command_line", _command_line),
        uptime=clocks[0] if clocks else None,
        clock=clocks[1] if clocks else None,
        cpus=had("cpus", lambda o: o.number(o.symbol("__num_online_cpus"), 4)),
        load=had("load", _load),
        panic=had("panic", _panic),
        taints=had("taints", _taints),
        missing=missing,
    )


def _names(objects: Objects) -> Object:
    return objects.at("uts_namespace", objects.symbol("init_uts_ns")).inner("name")


def _command_line(objects: Objects) -> str:
    """Return the line as /proc/cmdline has it, else as the log has it."""
    address = objects.kernel.symbols.address("saved_command_line")
    if address is not None:
        return objects.string(objects.number(address)).strip()
    lines = [record.text for record in log.log(objects)]
    for prefix in COMMAND_LINE:
        for line in lines:
            if line.startswith(prefix):
                return line.removeprefix(prefix).strip()
    raise Unknown("neither a variable nor the log has it (any more)")


def _clocks(objects: Objects) -> tuple[float, float]:
    """Return the time since boot and since 1970 from the timekeeper; kernel/time/timekeeping.c."""
    types, start = objects.btf, objects.symbol("tk_core|timekeeper_data")
    if types.has("tk_data", "timekeeper"):  # since 6.13; timekeeper_data is an array of them
        start += types.field(types.find("tk_data"), "timekeeper").offset
    else:  # a structure without a name: a lock, then the timekeeper
        start += (types.size(types.find("seqcount_raw_spinlock|seqcount")) + 7) & ~7
    keeper = objects.at("timekeeper", start)
    part = keeper.number("tkr_mono.xtime_nsec") >> (keeper.number("tkr_mono.shift") & 63)
    uptime = (keeper.number("tkr_mono.base") + part + keeper.number("offs_boot")) / 1e9
    clock = keeper.number("xtime_sec") + part / 1e9
    if not 0 <= uptime < CLOCK_MAX or not 0 <= clock < CLOCK_MAX:
        raise Unknown("its clock makes no sense")
    return uptime, clock


def _load(objects: Objects) -> tuple[float, ...]:
    start = objects.symbol("avenrun")
    return tuple(objects.number(start + 8 * n) / (1 << LOAD_SHIFT) for n in range(3))


def _panic(objects: Objects) -> str:
    """Return the reason of a panic: panic_cpu tells that there is one, the log why."""
    cpu = objects.number(objects.symbol("panic_cpu"), 4)
    if cpu == NO_CPU:
        return ""
    try:
        lines = [record.text for record in log.log(objects)]
    except (Unknown, BadAddress):
        lines = []
    reasons = (line.removeprefix(PANIC) for line in lines if line.startswith(PANIC))
    return next(reasons, f"on CPU {cpu}")


def _taints(objects: Objects) -> str:
    mask = objects.number(objects.symbol("tainted_mask"))
    letters = ("P" if letter == "G" else letter for letter in TAINTS)
    return "".join(letter for bit, letter in enumerate(letters) if mask >> bit & 1)
