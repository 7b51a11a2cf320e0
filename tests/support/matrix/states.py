"""What a guest is doing, or lacks, when it is entered."""

from __future__ import annotations

from dataclasses import dataclass

IDLE_SECONDS = 150
SYSTEMD = "Debian with systemd"


@dataclass(frozen=True, slots=True)
class State:
    """How to bring a guest there.

    prepare: commands for its console, up to ``;`` or ``&&``; ``{vcpus}`` is replaced.
    settle: seconds to leave it alone. noisy: its kernel goes on logging on its own.
    paused: its hypervisor is stopped meanwhile. dead: what its kernel says last.
    inside: a command that prints the process whose namespaces to join.
    """

    prepare: str = "true;"
    settle: float = 0
    noisy: bool = False
    paused: bool = False
    dead: str = ""
    inside: str = ""


EATER = "sh -c 'echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero'"
"""Takes all memory until it is killed."""

CONTAINER = "hostname inside; mount -t tmpfs none /tmp; exec sleep 99999"

STATES = {
    "idle": State(),
    "idle for minutes": State(settle=IDLE_SECONDS),
    "busy": State("(for i in $(seq {vcpus}); do (while :; do :; done) & done) &&"),
    "out of memory": State(
        "dmesg -n 1; echo -1000 >/proc/self/oom_score_adj;"
        f" (while :; do {EATER}; done 2>/dev/null &);"
        " until dmesg | grep -q 'Out of memory'; do sleep 1; done;",
        noisy=True,
    ),
    "read-only root": State("mount -o remount,ro / && ! touch /tmp/x 2>/dev/null &&"),
    "nothing mounted": State(
        "cd /; umount -l /dev/pts /dev /sys /proc 2>/dev/null; rm -r /dev /sys /proc;"
        " ! ls /dev /sys /proc 2>/dev/null &&"
    ),
    "in a container": State(
        f"(unshare -m -p -u -n -i -f --mount-proc sh -c '{CONTAINER}' >/dev/null 2>&1 &);"
        " until pidof sleep; do :; done;",
        inside="pidof sleep",
    ),
    "paused": State("dmesg -n 1;", paused=True, noisy=True),
    "panicked": State(
        "echo 0 >/proc/sys/kernel/panic; (sleep 1; echo c >/proc/sysrq-trigger) 2>/dev/null &",
        dead="end Kernel panic",
    ),
    SYSTEMD: State("systemctl is-system-running --wait | grep -xE 'running|degraded' &&"),
}
