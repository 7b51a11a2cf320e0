"""Load by wrk, and what it tells: how much was answered, how fast, and what failed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.process import child, run
from mizzen.model.errors import Failure

from . import debian

WHAT = "cannot measure with wrk"

SCRIPT = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %d, "p99": %d, "failed": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""
"""Lua: wrk calls it at its end. Source: SCRIPTING in wrk's documentation."""

DELAY = "delay = function() return {milliseconds} end\n"
"""Lua: wrk calls it before each request and waits so long on that connection."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What one run of wrk found.

    p50, p99: microseconds from a request to its answer. failed: connections that were refused,
    reset or ended too early, answers that did not come within 2 s, and those above status 399.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    failed: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Wrk:
    """wrk in a network namespace. root: see ``debian.unpacked``. script: a file with SCRIPT."""

    root: Path
    script: Path
    where: NetworkNamespace
    connections: int

    def command(self, url: str, seconds: float, *, short: bool) -> list[str]:
        """Return the command line. short: a connection for each request."""
        close = ["-H", "Connection: close"] if short else []
        arguments = ["-t", "1", "-c", str(self.connections), "-d", f"{seconds:.0f}s"]
        return self.where.inside(
            *debian.command(
                self.root, "usr/bin/wrk", *arguments, "-s", str(self.script), *close, url
            )
        )

    async def measure(self, url: str, seconds: float, *, short: bool) -> Answered:
        """Load a server for a while. Raises Failure if it does not answer at all."""
        done = await run(*self.command(url, seconds, short=short), what=WHAT)
        return answered(done.stdout)

    @contextlib.contextmanager
    def loading(self, url: str, *, short: bool) -> Iterator[list[Answered]]:
        """Load a server while the block lasts; what was found is in the list afterwards."""
        found: list[Answered] = []
        command = self.command(url, 24 * 3600, short=short)
        with child(command, what=WHAT, stdout=subprocess.PIPE) as process:
            yield found
            process.send_signal(signal.SIGINT)  # it ends and tells
            text, _ = process.communicate()
            found.append(answered(text))


def write_script(folder: Path, delay: int = 0) -> Path:
    """Write what wrk calls, and return the file. delay: milliseconds before each request."""
    path = folder / f"wrk-{delay}.lua"
    path.write_text(SCRIPT + (DELAY.format(milliseconds=delay) if delay else ""))
    return path


def answered(output: bytes) -> Answered:
    """Read what wrk has told: its last line. Raises Failure."""
    lines = output.splitlines() or [b""]
    try:
        found = msgspec.json.decode(lines[-1], type=Answered)
    except msgspec.MsgspecError as error:
        raise Failure(WHAT, "it has told nothing at its end", "run it by hand") from error
    if not found.requests:
        raise Failure(WHAT, "not one request was answered", "try again")
    return found
