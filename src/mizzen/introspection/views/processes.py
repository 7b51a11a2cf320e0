"""The guest's processes, as ``ps`` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import Object, Objects
from mizzen.introspection.memory.physical import PAGE, BadAddress
from mizzen.introspection.paging.tables import PageTables

from .lists import Limit, Listing, collected, nodes

PF_KTHREAD = 0x0020_0000
"""include/linux/sched.h; unchanged since 2.6.30."""
LETTERS = "RSDTtXZP"
"""What ps calls the states 0, 1, 2, 4 ... 0x40; fs/proc/array.c, task_state_array."""
TASK_REPORT = 0x7F
TASK_IDLE = 0x402
TASK_RTLOCK_WAIT = 0x1000
TASK_FROZEN = 0x8000
"""include/linux/sched.h."""
PAGES_MAX = 1 << 40
COMMAND_MAX = 32 << 10
"""Bytes of arguments that are read of one process."""
RSS = (0, 1, 3)
"""MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES of include/linux/mm_types_task.h, since 4.5."""
IDLE = b"swapper/0\0"
IDLE_MAX = 4096
"""Places in the image with that name that are looked at."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, or a thread of the kernel's.

    state: as ps shows it, one letter. uid: effective. threads: how many. started: seconds after
    boot. resident: bytes of memory; None for the kernel's threads and what has ended.
    name: as /proc/PID/comm. command: its arguments; None where they cannot be had: the kernel's
    threads have none, others' may be swapped out.
    """

    pid: int
    parent: int
    state: str
    uid: int
    threads: int
    started: float
    resident: int | None
    name: str
    command: tuple[str, ...] | None
    kernel: bool


def processes(objects: Objects) -> Listing[Process]:
    """Return all processes. Raises Unknown, BadAddress."""
    first = init_task(objects)
    return collected(lambda limit: _processes(objects, first, limit))


def _processes(objects: Objects, first: Object, limit: Limit) -> Iterator[Process]:
    for task in tasks(objects, first, limit):
        process = _process(objects, task)
        limit.hold(process.name, *(process.command or ()))
        yield process


def tasks(objects: Objects, first: Object, limit: Limit) -> Iterator[Object]:
    """Yield the task_struct of every process. first: init_task. Raises Broken, BadAddress."""
    for node in nodes(objects, first.place("tasks"), limit):
        yield objects.around("task_struct", "tasks", node)


def init_task(objects: Objects) -> Object:
    """Return the task_struct of the first CPU's idle task, at which the list begins.

    Where no symbol names it, it is known by its name and by being its own parent.
    Raises Unknown, BadAddress.
    """
    address = objects.kernel.symbols.address("init_task")
    if address is not None:
        return objects.at("task_struct", address)
    start, image = objects.image()
    place = -1
    for _ in range(IDLE_MAX):
        place = image.find(IDLE, place + 1)
        if place < 0:
            break
        task = objects.around("task_struct", "comm", start + place)
        try:
            if task.number("real_parent") == task.address and not task.number("pid"):
                return task
        except BadAddress:
            pass  # the name stands there by itself
    raise Unknown("its kernel names no variable init_task, nor is its idle task in its image")


def _process(objects: Objects, task: Object) -> Process:
    parent, mm = task.follow("real_parent"), task.follow("mm")
    kernel = bool(task.number("flags") & PF_KTHREAD)
    return Process(
        pid=task.number("tgid"),
        parent=parent.number("tgid") if parent else 0,
        state=state(task.number("__state|state"), task.number("exit_state")),
        uid=_uid(task),
        threads=_threads(task),
        started=task.number("start_boottime|real_start_time") / 1e9,
        resident=_or_none(lambda: _resident(objects, mm)) if mm and not kernel else None,
        name=task.text("comm"),
        command=_or_none(lambda: _command(objects, mm)) if mm and not kernel else None,
        kernel=kernel,
    )


def state(running: int, ended: int) -> str:
    """Return the letter for a task's __state and exit_state.

    Source: include/linux/sched.h, __task_state_index.
    """
    if running & (TASK_RTLOCK_WAIT | TASK_FROZEN):
        return "D"
    if running & TASK_IDLE == TASK_IDLE:
        return "I"
    return LETTERS[((running | ended) & TASK_REPORT).bit_length()]


def _uid(task: Object) -> int:
    credentials = task.follow("cred")
    return credentials.number("euid.val") if credentials else 0


def _threads(task: Object) -> int:
    signal = task.follow("signal")
    return signal.number("nr_threads") if signal else 0


def _resident(objects: Objects, mm: Object) -> int:
    """Add up pages of files, anonymous and shared memory: three of the counters of mm_struct.

    Up to 6.1 they are plain (struct mm_rss_stat), since 6.2 of type struct percpu_counter (commit
    f1a7941243c1), of which each CPU keeps a part to itself.
    """
    if objects.btf.has("mm_struct", "rss_stat.count"):
        counts = mm.numbers("rss_stat.count")
        pages = sum(counts[number] for number in RSS)
    else:
        counters = list(mm.elements("rss_stat", max(RSS) + 1))
        pages = sum(_percpu_count(objects, counters[number]) for number in RSS)
    return min(max(0, pages), PAGES_MAX) * PAGE


def _percpu_count(objects: Objects, counter: Object) -> int:
    total = counter.number("count")
    own = counter.number("counters")
    for base in objects.percpu():
        total += int.from_bytes(objects.read(base + own, 4), "little", signed=True)
    return total


def _command(objects: Objects, mm: Object) -> tuple[str, ...]:
    """Read the arguments from the process's own memory; fs/proc/base.c, get_mm_cmdline."""
    start, end = mm.number("arg_start"), mm.number("arg_end")
    if not 0 < start < end:
        return ()
    kernel = objects.kernel
    root = objects.physical(mm.number("pgd"))
    tables = PageTables(kernel.memory, root, kernel.tables.levels)
    data = tables.read(start, min(end - start, COMMAND_MAX))
    words = data.removesuffix(b"\0").split(b"\0")
    return tuple(word.decode(errors="replace") for word in words)


def _or_none(read: Callable[[], T]) -> T | None:
    """Return what is read, None where it cannot be: a process may just be ending."""
    try:
        return read()
    except (BadAddress, Unknown, IndexError):
        return None
