"""Spawn processes, wait for them, and recognise them again later.

Everything that Mizzen runs goes through ``run`` or ``spawn``, so that a failure is explained in
one way and a missing program names the Debian package that has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from mizzen.model.errors import Failure

PACKAGES = {
    "apt-get": "apt",
    "buildah": "buildah",
    "dpkg-deb": "dpkg",
    "journalctl": "systemd",
    "mkfs.erofs": "erofs-utils",
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86_64": "qemu-system-x86",
    "timeout": "coreutils",
}
"""Debian package of each program that Mizzen runs."""

TAIL = 4096
"""Bytes of a failed program's stderr that are looked at for its last words."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ended with status 0."""

    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Stdout as text, without the last newline."""
        return self.stdout.decode(errors="replace").rstrip("\n")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for ever: a pid is used again, a pid with its start time is not."""

    pid: int
    start: int = field(default=0)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs (a zombie does not)."""
        return self.start != 0 and start_time(self.pid) == self.start


def which(program: str) -> str:
    """Return the program's path; a Failure names the package to install."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        package = PACKAGES.get(program, program)
        raise Failure(
            f"cannot run {program}", "it is not installed", f"run: apt-get install {package}"
        )
    return path


def start_time(pid: int) -> int:
    """Start of a process in clock ticks since boot; 0 if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def last_words(stderr: bytes) -> str:
    """Return the last line that is not empty of what a program complained."""
    lines = [line.strip() for line in stderr[-TAIL:].decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


async def run(
    *arguments: str | Path,
    what: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    explain: Callable[[str], tuple[str, str]] | None = None,
) -> Completed:
    """Run a program to its end.

    what: what this is for, the beginning of the Failure's line ("cannot build the image").
    env: added to this process's environment.
    on_line: called with each line of stderr as it comes.
    explain: turns stderr into (why, fix) for the Failure; by default the last line.

    The program and its children are killed when the caller is cancelled.
    Raises Failure if it cannot be started or exits with another status than 0.
    """
    program = which(str(arguments[0]))
    process = await asyncio.create_subprocess_exec(
        program,
        *(str(argument) for argument in arguments[1:]),
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **env} if env else None,
        cwd=cwd,
        start_new_session=True,
        limit=1 << 20,
    )
    try:
        stdout, stderr = await _communicate(process, stdin, on_line)
    except BaseException:
        _kill_group(process.pid)
        with contextlib.suppress(ProcessLookupError):
            await process.wait()
        raise
    if process.returncode:
        why = last_words(stderr) or f"{arguments[0]} exited with status {process.returncode}"
        fix = ""
        if explain is not None:
            why, fix = explain(stderr.decode(errors="replace"))
        failure = Failure(what, why, fix)
        command = shlex.join(str(argument) for argument in arguments)
        failure.add_note(
            f"command: {command}\nstatus: {process.returncode}\n{stderr.decode(errors='replace')}"
        )
        raise failure
    return Completed(stdout, stderr)


async def _communicate(
    process: asyncio.subprocess.Process, stdin: bytes | None, on_line: Callable[[str], None] | None
) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = bytearray()

    async def read_stderr(stream: asyncio.StreamReader) -> None:
        while line := await _read_line(stream):
            complaints.extend(line)
            if on_line is not None:
                on_line(line.decode(errors="replace").rstrip())

    async def feed() -> None:
        if process.stdin is None or stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(stdin)
            await process.stdin.drain()
        process.stdin.close()

    stdout, _, _ = await asyncio.gather(process.stdout.read(), read_stderr(process.stderr), feed())
    await process.wait()
    return stdout, bytes(complaints)


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """Read one line, or a part of one that is longer than the buffer."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as long:
        return await stream.read(max(long.consumed, 1))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def spawn(
    arguments: Sequence[str],
    *,
    what: str,
    log: IO[bytes],
    pass_fds: Sequence[int] = (),
    user: tuple[int, int] | None = None,
    groups: Sequence[int] = (),
    file_limit: int | None = None,
) -> ProcessId:
    """Start a program that outlives this one, in a session of its own.

    log: receives its stdout and stderr. user: (uid, gid) to become; None keeps this user.
    file_limit: largest file in bytes that it may write (RLIMIT_FSIZE); writes beyond it fail
        with EFBIG instead of killing it, because SIGXFSZ stays ignored as Python has it.
    """
    program = which(arguments[0])
    try:
        process = subprocess.Popen(
            [program, *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=pass_fds,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=groups if user else None,
            umask=0o077,
            cwd="/",
            start_new_session=True,
            restore_signals=file_limit is None,
            # In the child itself: prlimit on another user's process needs CAP_SYS_RESOURCE.
            # It takes no lock, so threads do not matter.
            preexec_fn=None if file_limit is None else partial(_limit_files, file_limit),  # noqa: PLW1509
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Failure(what, f"{arguments[0]}: {why}", "see mizzen doctor") from error
    identity = ProcessId(process.pid, start_time(process.pid))
    # It is waited for by pidfd or found again by pid; Popen's own bookkeeping would warn.
    process.returncode = 0
    return identity


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


async def ended(process: ProcessId, seconds: float | None = None) -> bool:
    """Wait until a process, child or not, has ended; False if it has not within seconds."""
    if not process.alive:
        reap(process.pid)
        return True
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    try:
        loop.add_reader(pidfd, over.set)
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    reap(process.pid)
    return True


def reap(pid: int) -> int | None:
    """Collect a child that has ended; None if it is not this process's child or still runs."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if done else None


def kill(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to that very process; nothing happens if it is gone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def holders(path: Path) -> list[ProcessId]:
    """Return the processes that have a file open, as far as this user may look."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found: set[int] = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            status = descriptor.stat()
            if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.add(int(descriptor.parts[2]))
    return [ProcessId(pid, start_time(pid)) for pid in sorted(found)]
