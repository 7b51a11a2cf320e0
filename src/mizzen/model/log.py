"""Lines that a machine wrote, in the format of Kubernetes' container runtime interface.

One record a line: ``TIME STREAM TAG TEXT``, TIME as RFC 3339 with nanoseconds, TAG ``F`` for a
whole line and ``P`` for a part that the next record of the same stream goes on with. Besides
stdout and stderr, Mizzen's init writes a stream named ``init``.

Source: kubernetes/design-proposals-archive, node/kubelet-cri-logging.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class Stream(StrEnum):
    """Who wrote a line."""

    STDOUT = "stdout"
    STDERR = "stderr"
    INIT = "init"
    KERNEL = "kernel"  # the serial console: kernel messages


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. time: seconds since the epoch by the guest's clock, None if it told none."""

    time: float | None
    stream: Stream
    text: str
    partial: bool = False


def parse_cri(line: str) -> LogLine | None:
    """Read one record; None if it is none. The guest wrote it, so anything may come."""
    parts = line.rstrip("\n").split(" ", 3)
    if len(parts) < 3 or parts[2] not in {"F", "P"}:
        return None
    try:
        stream = Stream(parts[1])
        # fromisoformat takes at most microseconds before Python 3.11's relaxed rules end
        time = datetime.fromisoformat(parts[0]).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return LogLine(time, stream, parts[3] if len(parts) == 4 else "", partial=parts[2] == "P")
