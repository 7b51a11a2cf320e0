"""Put stage 1 into the guest kernel, wait until it has started stage 2, leave no trace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from mizzen.host.paths import guest_binary
from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import PAGE, BadAddress, read_word, write_word
from mizzen.model.errors import Failure

from . import blob, hooks, place
from .blob import Begun, Report, State
from .hooks import Hook
from .place import Place

HOOK_SECONDS = 30
"""How long no softirq may come. A guest that idles has one every few seconds."""
START_SECONDS = 30
LEAVE_SECONDS = 10
DECIDE_SECONDS = 5
POLL_SECONDS = 0.0005

_STEPS: dict[int, str] = {
    State.BUFFER: "getting memory for stage 2",
    State.MOUNT: "mounting a ramfs",
    State.EXEC: "starting stage 2",
    State.HELLO: "waiting for stage 2",
}


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try to get in. stubs: what the hooks are made to point to."""

    kernel: Kernel
    place: Place
    hooks: list[Hook]
    stubs: list[int]
    check: Callable[[], None]

    def report(self) -> Report:
        """Return what stage 1 tells."""
        return blob.read_report(self.kernel.memory.read(self.place.data_physical, PAGE))

    def waits(self) -> bool:
        """Tell whether stage 1 still waits for its buffer to be filled.

        It says "withdrawn" before it frees it, and later wipes all it said, in ascending order.
        """
        return not self.report().withdrawn and bool(self.report().buffer)

    def wiped(self) -> bool:
        """Tell whether stage 1 has come to its end."""
        return not any(self.kernel.memory.read(self.place.physical, PAGE))

    def tell(self, offset: int, value: int) -> None:
        """Write one word of the data page."""
        write_word(self.kernel.memory, self.place.data_physical + offset, value)

    def until(self, reached: Callable[[Report], bool], seconds: float, late: Failure) -> Report:
        """Wait until stage 1 has got somewhere, or failed. Raises late if it takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            report = self.report()
            if reached(report) or report.state in {State.FAILED, State.PARKED}:
                return report
            if time.monotonic() > deadline:
                raise late
            self.check()
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Stage 2 runs. hello: what it said."""

    hello: bytes
    _attempt: _Attempt

    def settle(self) -> None:
        """Wait until stage 1 has wiped itself, and unmap it; due at any time later.

        Without it the next attach does so: nothing leads to what is left.
        """
        with _undisturbed():
            _leave(self._attempt)


def start(kernel: Kernel, token: str, check: Callable[[], None]) -> Arrival:
    """Start stage 2 in the guest.

    token: 32 hex digits that stage 2 marks its channel with.
    check: called while waiting; raises if the hypervisor has gone.
    Raises Failure; then the guest goes on as before.
    """
    stage1, stage2 = _programs()
    with _undisturbed():
        parked = _recover(kernel)
        found = hooks.find(kernel)
        where = place.choose(kernel)
        attempt = _Attempt(kernel, where, found, blob.stubs(stage1, where, len(found)), check)
        page = blob.build(
            stage1,
            len(stage2),
            kernel=kernel,
            place=where,
            hooks=found,
            parked=[kernel.direct_map + physical for physical in parked],
            token=token,
        )
        kernel.memory.write(where.physical, page)
        place.map_in(kernel, where)
    try:
        hooks.switch(kernel, found, attempt.stubs)
        attempt.tell(blob.ARMED, 1)
        report = _enter(attempt, stage2)
        attempt.tell(blob.ACKNOWLEDGED, 1)
        if report.state != State.READY:
            raise _failure(report)
    except BaseException:
        with _undisturbed():
            if not _withdrawn(attempt):
                attempt.tell(blob.ACKNOWLEDGED, 1)
                _leave(attempt)
        raise
    return Arrival(report.hello, attempt)


def _programs() -> tuple[bytes, bytes]:
    try:
        return guest_binary("stage1.bin").read_bytes(), guest_binary("stage2").read_bytes()
    except FileNotFoundError as error:
        raise Failure(
            "cannot attach", f"{error.filename} is missing", "run: make -C guest"
        ) from error


def _enter(attempt: _Attempt, stage2: bytes) -> Report:
    """Wait for stage 1 and give it stage 2."""
    attempt.until(
        lambda report: report.begun != Begun.NO,
        HOOK_SECONDS,
        Failure(
            "cannot attach",
            f"the guest handled no softirq for {HOOK_SECONDS} s: it is paused, hung or still"
            " booting",
            "let it run and try again",
        ),
    )
    late = Failure(
        "cannot attach",
        f"stage 2 did not start within {START_SECONDS} s",
        "try again when the guest is less busy",
    )
    report = attempt.until(lambda report: report.buffer != 0, START_SECONDS, late)
    if report.state == State.FAILED:
        return report
    attempt.tell(blob.CLAIMED, 1)  # before we look whether it is still ours to write to
    if not attempt.waits():
        raise _held_up()
    try:
        attempt.kernel.tables.write(report.buffer, stage2)
    except BadAddress as error:
        raise Failure("cannot attach", f"stage 1's memory is unreachable: {error}") from error
    attempt.tell(blob.FILLED, 1)
    return attempt.until(lambda report: report.state == State.READY, START_SECONDS, late)


def _withdrawn(attempt: _Attempt) -> bool:
    """Disarm and take the hooks back; False if stage 1 has begun: it ends by itself, or has.

    The code stays, mapped and disarmed: a CPU may have read a hook just before, and a paused one
    comes to it when it is let go. The next attach has it wiped.
    """
    attempt.tell(blob.ARMED, 0)
    hooks.restore(attempt.kernel, attempt.hooks, attempt.stubs)
    deadline = time.monotonic() + DECIDE_SECONDS
    while attempt.report().begun == Begun.TRYING and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return attempt.report().begun != Begun.YES and not attempt.wiped()


def _leave(attempt: _Attempt) -> None:
    """Wait for stage 1 to wipe its place, and unmap it unless another is in use."""
    kernel, where = attempt.kernel, attempt.place
    deadline = time.monotonic() + LEAVE_SECONDS
    while not attempt.wiped():
        if time.monotonic() > deadline or attempt.report().state == State.PARKED:
            return
        time.sleep(POLL_SECONDS)
    if any(kernel.memory.read(where.data_physical, PAGE)):  # we told it something too late
        kernel.memory.write(where.data_physical, bytes(PAGE))
    if not list(place.in_use(kernel, blob.MAGIC)):
        place.unmap(kernel, where)


def _recover(kernel: Kernel) -> list[int]:
    """Take back the hooks of attaches that were killed; return their places, to be wiped.

    Nobody else is attaching, since we hold the guest's lock. One whose stage 1 has begun ends by
    itself: it has put its hooks back, and wipes its place, unless it says that it is parked.
    """
    parked = []
    for physical in place.in_use(kernel, blob.MAGIC):
        page = kernel.memory.read(physical, PAGE)
        report = blob.read_report(kernel.memory.read(physical + PAGE, PAGE))
        if report.begun == Begun.YES:
            if report.state == State.PARKED:
                parked.append(physical)
            continue
        code = place.at(kernel, physical).code
        write_word(kernel.memory, physical + PAGE + blob.ARMED, 0)
        for slot, original, stub in blob.read_hooks(page):
            with suppress(BadAddress):  # the guest may have written this page itself
                at = kernel.physical(slot)
                if read_word(kernel.memory, at) == code + stub:
                    write_word(kernel.memory, at, original)
        parked.append(physical)
    return parked[: blob.PARKED_MAX]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold signals back: the block leaves the guest as it was."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _held_up() -> Failure:
    return Failure(
        "cannot attach", "this host was held up for longer than the guest waits", "try again"
    )


def _failure(report: Report) -> Failure:
    if report.state == State.PARKED:
        return _held_up()
    step = _STEPS.get(report.step, "stage 1")
    number = -report.error
    reason = os.strerror(number) if 0 < number < 4096 else f"error {report.error}"
    fix = "wait until the guest has booted" if report.step == State.EXEC else ""
    return Failure("cannot attach", f"{step} failed in the guest: {reason}", fix)
