"""What a guest is doing, or lacks, when it is entered."""

from __future__ import annotations

from dataclasses import dataclass

IDLE_SECONDS = 150


@dataclass(frozen=True, slots=True)
class State:
    """How to bring a guest there.

    prepare: commands for its console; ``{vcpus}`` is replaced. settle: seconds to leave it alone.
    noisy: its kernel goes on logging on its own.
    """

    prepare: str = ""
    settle: float = 0
    noisy: bool = False


STATES = {
    "idle": State(),
    "idle for minutes": State(settle=IDLE_SECONDS),
    "busy": State(prepare="(for i in $(seq {vcpus}); do (while :; do :; done) & done)"),
    "out of memory": State(
        prepare="dmesg -n 1; echo -1000 >/proc/self/oom_score_adj;"
        " (while :; do sh -c 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero'; done)"
        " 2>/dev/null & until dmesg | grep -q 'Out of memory'; do sleep 1; done",
        noisy=True,
    ),
    "read-only root": State(prepare="mount -o remount,ro / && ! touch /tmp/x 2>/dev/null"),
    "nothing mounted": State(
        prepare="cd /; umount -l /dev/pts /dev /sys /proc 2>/dev/null; rm -r /dev /sys /proc;"
        " ! ls /proc /dev 2>/dev/null"
    ),
    "Debian with systemd": State(),
}
