"""Measure one way into a guest: how soon it answers, how fast it echoes, how much it carries."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator

from mizzen.host.process import child, last_words
from mizzen.model.errors import Failure

from .guest import DATA, DATA_SIZE
from .ways import Way

PATIENCE = 60
"""Seconds without a byte until a way counts as stuck."""
CHUNK = 1 << 16
MIB = 1 << 20

READY = b"ready"
ECHO = 'stty raw -echo; echo "rea""dy"; exec cat'


def first_output(way: Way) -> float:
    """Return the seconds from starting the command to the first byte that it prints."""
    began = time.perf_counter()
    with _running(way, "echo x") as process:
        _read(process, way)
        took = time.perf_counter() - began
        _finish(process, way)
    return took


def output_rate(way: Way, size: int) -> float:
    """Return MB/s (10^6) from guest to host, of about size bytes that do not compress."""
    count = max(1, size // DATA_SIZE)
    with _running(way, "cat " + " ".join([DATA] * count)) as process:
        left = count * DATA_SIZE - len(_read(process, way))
        counted, began = left, time.perf_counter()
        while left > 0:
            left -= len(_read(process, way))
        took = time.perf_counter() - began
        _finish(process, way)
    return counted / took / 1e6


def input_rate(way: Way, size: int) -> float:
    """Return MB/s (10^6) from host to guest, of about size bytes, until the guest has them all."""
    data = os.urandom(MIB)
    script = "echo ready; cat >/dev/null; echo done"
    with _running(way, script, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        _read(process, way)
        began = time.perf_counter()
        for _ in range(max(1, size // MIB)):
            rest = memoryview(data)
            while rest:
                rest = rest[process.stdin.write(rest) :]
        process.stdin.close()
        _read(process, way)
        took = time.perf_counter() - began
        _finish(process, way)
    return max(1, size // MIB) * MIB / took / 1e6


@contextlib.contextmanager
def typing(way: Way) -> Iterator[tuple[int, Callable[[], float]]]:
    """Open a session on a terminal; yield its pid and a function that types a byte.

    The function returns the seconds until the byte, echoed by a program in the guest, is back.
    """
    master, slave = pty.openpty()
    try:
        with _started([*way.on_terminal, ECHO], way, slave, slave, slave) as process:
            os.close(slave)
            slave = -1
            seen = b""
            while READY not in seen or not seen.endswith(b"\n"):
                data = _next(master)
                if not data:
                    raise _trouble(way, last_words(seen))
                seen += data

            def type_one() -> float:
                began = time.perf_counter()
                os.write(master, b"x")
                if _next(master) != b"x":
                    raise _trouble(way, "it did not echo what was typed")
                return time.perf_counter() - began

            yield process.pid, type_one
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


@contextlib.contextmanager
def _running(
    way: Way, script: str, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    with _started([*way.piped, script], way, stdin, subprocess.PIPE, subprocess.PIPE) as process:
        yield process


def _started(
    words: list[str], way: Way, stdin: int, stdout: int, stderr: int
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return child(
        words,
        what=f"cannot run {way.name}",
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=way.environment,
    )


def _read(process: subprocess.Popen[bytes], way: Way) -> bytes:
    """Return what comes next: at least a byte."""
    assert process.stdout is not None
    data = _next(process.stdout.fileno())
    if not data:
        assert process.stderr is not None
        raise _trouble(way, last_words(process.stderr.read()))
    return data


def _next(file: int) -> bytes:
    """Return what comes next; nothing if it has ended, or nothing comes for long."""
    if not select.select([file], [], [], PATIENCE)[0]:
        return b""
    try:
        return os.read(file, CHUNK)
    except OSError:  # a terminal whose other end is closed
        return b""


def _trouble(way: Way, why: str) -> Failure:
    return Failure(f"cannot measure {way.name}", why or f"it ended, or was silent for {PATIENCE} s")


def _finish(process: subprocess.Popen[bytes], way: Way) -> None:
    """Take the rest of the output, and wait for the end."""
    assert process.stdout is not None
    while select.select([process.stdout], [], [], PATIENCE)[0] and process.stdout.read(CHUNK):
        pass
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise Failure(
            f"cannot measure {way.name}", f"it did not end within {PATIENCE} s"
        ) from error
    if status:
        raise _trouble(way, f"it ended with status {status}")
