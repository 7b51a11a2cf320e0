"""Put stage 1 into the guest kernel, wait until it has started stage 2, leave no trace."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mizzen.host.paths import guest_binary
from mizzen.introspection.kernel.image import Kernel
from mizzen.introspection.memory.physical import BadAddress, read_word, write_word
from mizzen.model.errors import Failure

from . import blob, hooks, padding
from .blob import Report, State

HOOK_SECONDS = 15
"""How long a hooked work item may take to come round: most come once a second."""
START_SECONDS = 30
POLL_SECONDS = 0.002
LEAVE_SECONDS = 0.2

_STEPS: dict[int, str] = {
    State.MOUNT: "mounting a tmpfs",
    State.WRITE: "writing stage 2",
    State.EXEC: "starting stage 2",
    State.HELLO: "waiting for stage 2",
}


def start(kernel: Kernel, token: str, check: Callable[[], None]) -> bytes:
    """Start stage 2 in the guest and return its hello.

    token: 32 hex digits that stage 2 marks its channel with.
    check: called while waiting; raises if the hypervisor has gone.
    Raises Failure; then everything that was changed has been put back.
    """
    stage1, stage2 = guest_binary("stage1.bin"), guest_binary("stage2")
    try:
        parts = stage1.read_bytes(), stage2.read_bytes()
    except FileNotFoundError as error:
        raise Failure(
            "cannot attach", f"{error.filename} is missing", "run: make -C guest"
        ) from error
    address, text = kernel.read_image("_stext", "_etext")
    _recover(kernel, text, address)
    entry = padding.choose(kernel, text, address, blob.total_size(*parts))
    found = hooks.find(kernel)
    code = blob.build(*parts, kernel=kernel, entry=entry, hooks=found, token=token)
    armed = kernel.physical(entry) + blob.ARMED_OFFSET
    hooked = False
    try:
        kernel.memory.write(kernel.physical(entry), code)
        hooked = True
        hooks.switch(kernel, found, entry, armed)
        region = _wait_for_region(kernel, entry, found, check)
        report = _wait_for_report(kernel, region, check)
        _acknowledge(kernel, entry, region)
    except BaseException:
        with _undisturbed():  # once stage 1 has begun, it puts everything back itself
            if not hooked or hooks.restore(kernel, found, entry, armed):
                _wipe(kernel, entry, len(code))
        raise
    if report.state != State.READY:
        raise _failure(report)
    return report.hello


def _recover(kernel: Kernel, text: bytes, address: int) -> None:
    """Take back the hooks of a host that was killed before stage 1 had begun.

    Nobody else is attaching, since we hold the guest's lock.
    """
    for entry, size, pairs in blob.stale(text, address):
        left = [hooks.Hook("", slot, kernel.physical(slot), original) for slot, original in pairs]
        armed = kernel.physical(entry) + blob.ARMED_OFFSET
        if left and hooks.restore(kernel, left, entry, armed):
            _wipe(kernel, entry, size)


def _wait_for_region(
    kernel: Kernel, entry: int, found: list[hooks.Hook], check: Callable[[], None]
) -> int:
    """Wait until stage 1 tells where its region is."""
    deadline = time.monotonic() + HOOK_SECONDS
    place = kernel.physical(entry) + blob.REGION_OFFSET
    while time.monotonic() < deadline:
        region = read_word(kernel.memory, place)
        if region:
            return region
        check()
        time.sleep(POLL_SECONDS)
    raise Failure(
        "cannot attach",
        f"the guest ran none of {len(found)} hooked work items in {HOOK_SECONDS} s:"
        " it is paused, hung or still booting",
        "let it run and try again",
    )


def _wait_for_report(kernel: Kernel, region: int, check: Callable[[], None]) -> Report:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            data = kernel.tables.read(region + blob.REPORT_OFFSET, 4096)
        except BadAddress as error:
            raise Failure("cannot attach", f"stage 1's report is unreadable: {error}") from error
        report = blob.read_report(data)
        if report.state in {State.READY, State.FAILED}:
            return report
        check()
        time.sleep(POLL_SECONDS)
    raise Failure(
        "cannot attach",
        f"stage 2 did not start within {START_SECONDS} s",
        "try again when the guest is less busy",
    )


def _acknowledge(kernel: Kernel, entry: int, region: int) -> None:
    """Let stage 1 go, unless it has given up waiting and its region is no longer ours."""
    if read_word(kernel.memory, kernel.physical(entry) + blob.REGION_OFFSET) == region:
        write_word(kernel.memory, kernel.tables.physical(region + blob.ACKNOWLEDGED_OFFSET), 1)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold signals back: the block leaves the guest as it was."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wipe(kernel: Kernel, entry: int, size: int) -> None:
    """Make padding of code that never ran."""
    # A CPU may have read a hook just before it was restored: it finds its way out by this code.
    time.sleep(LEAVE_SECONDS)
    kernel.memory.write(kernel.physical(entry), padding.INT3 * size)


def _failure(report: Report) -> Failure:
    step = _STEPS.get(report.step, "stage 1")
    number = -report.error
    reason = os.strerror(number) if 0 < number < 4096 else f"error {report.error}"
    fix = "wait until the guest has booted" if report.step == State.EXEC else ""
    return Failure("cannot attach", f"{step} failed in the guest: {reason}", fix)
