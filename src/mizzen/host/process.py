"""Spawn processes, wait for them, and recognise them again later.

Everything that Mizzen runs goes through ``run`` or ``spawn``, so that a failure is explained in
one way and a missing program names the Debian package that has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import shlex
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from mizzen.model.errors import Failure

PACKAGES = {
    "apt-get": "apt",
    "buildah": "buildah",
    "busybox": "busybox-static",
    "dot": "graphviz",
    "dpkg-deb": "dpkg",
    "env": "coreutils",
    "git": "git",
    "ip": "iproute2",
    "journalctl": "systemd",
    "mkfs.erofs": "erofs-utils",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "prlimit": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "timeout": "coreutils",
    "unshare": "util-linux",
    "zstd": "zstd",
}
"""Debian package of each program that Mizzen runs."""

TAIL = 4096
"""Bytes of a failed program's stderr that are looked at for its last words."""


GRACE = 10
"""Seconds that a child has to end when it was asked to."""


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
    """Start of a process in clock ticks since boot; 0 if it is gone or a zombie.

    One whose first thread has ended before the others is shown as a zombie, but has files open
    and memory mapped as long as they run.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    state, threads, start = fields[0], int(fields[17]), int(fields[19])  # proc(5)
    return 0 if state in "ZX" and threads <= 1 else start


def find_by_identity(vm_id: str) -> list[ProcessId]:
    """Return the processes that were told on their command line to be the VM of that id.

    Whatever the hypervisor is called, its identity is an argument: ``--id 2`` or ``--id=2``
    (Firecracker, Cloud Hypervisor's wrappers), ``-name 2`` or ``-name guest=2,...`` (QEMU).
    A process that was started by one that says the same (a jailer, a shell) is not told apart.
    """
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended, or is somebody else's under hidepid
        arguments = command.decode(errors="surrogateescape").split("\0")
        if _says_id(arguments, vm_id):
            identity = ProcessId(int(folder.name), start_time(int(folder.name)))
            if identity.alive:
                found.append(identity)
    return sorted(found, key=lambda identity: identity.pid)


def _says_id(arguments: Sequence[str], vm_id: str) -> bool:
    for name, value in itertools.pairwise([*arguments[1:], ""]):
        if name in {f"--id={vm_id}", f"--name={vm_id}"}:
            return True
        if name in {"--id", "--name"} and value == vm_id:
            return True
        if name == "-name" and vm_id in {value.split(",")[0], *_guest_names(value)}:
            return True
    return False


def _guest_names(value: str) -> list[str]:
    return [part[6:] for part in value.split(",") if part.startswith("guest=")]


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
    try:
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
    except OSError as error:
        raise Failure(what, f"{arguments[0]}: {error.strerror}", "see mizzen doctor") from error
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
        complaints = stderr[-TAIL:].decode(errors="replace")
        failure.add_note(f"command: {command}\nstatus: {process.returncode}\n{complaints}")
        raise failure
    return Completed(stdout, stderr)


async def stream(*arguments: str | Path, what: str) -> AsyncGenerator[bytes, None]:
    """Run a program and yield each line of its stdout as it comes, without the newline.

    A line longer than the buffer comes in parts. Close the generator (``contextlib.aclosing``)
    or cancel its task to kill the program; it ends by itself if the program exits with status 0.
    Raises Failure as ``run`` does.
    """
    program = which(str(arguments[0]))
    process = await asyncio.create_subprocess_exec(
        program,
        *(str(argument) for argument in arguments[1:]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        limit=1 << 20,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(_tail(process.stderr))
    try:
        while line := await _read_line(process.stdout):
            yield line.removesuffix(b"\n")
        await process.wait()
        stderr = await complaints
    finally:
        _kill_group(process.pid)
        while await process.stdout.read(TAIL):  # to its end, or the pipe would outlive the loop
            pass
        await asyncio.wait({complaints})
        await process.wait()
    if process.returncode:
        why = last_words(stderr) or f"{arguments[0]} exited with status {process.returncode}"
        raise Failure(what, why)


async def _tail(source: asyncio.StreamReader) -> bytes:
    tail = b""
    while chunk := await source.read(TAIL):
        tail = (tail + chunk)[-TAIL:]
    return tail


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
    env: Mapping[str, str] | None = None,
) -> ProcessId:
    """Start a program that outlives this one, in a session of its own.

    log: receives its stdout and stderr. user: (uid, gid) to become; None keeps this user.
    file_limit: largest file in bytes that it may write (RLIMIT_FSIZE); writes beyond it fail
        with EFBIG instead of killing it, because SIGXFSZ stays ignored as Python has it.
    env: added to this process's environment.
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
            env={**os.environ, **env} if env else None,
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


@contextlib.contextmanager
def child(
    arguments: Sequence[str],
    *,
    what: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside this one while the block lasts; it dies with this process too.

    stdin, stdout, stderr: as ``subprocess.Popen`` takes them; it gets pipes unbuffered.
    env: added to this process's environment.

    Whoever types Ctrl-C does not reach it. At the end it is asked to end, and killed if it has
    not within 10 s. Raises Failure if it cannot be started.
    """
    program = which(arguments[0])
    try:
        process = subprocess.Popen(
            [which("setpriv"), "--pdeathsig", "TERM", program, *arguments[1:]],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            env={**os.environ, **env} if env else None,
            bufsize=0,
            process_group=0,
        )
    except OSError as error:
        raise Failure(what, f"{arguments[0]}: {error.strerror}", "see mizzen doctor") from error
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE)
        except BaseException as error:
            process.kill()
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        finally:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def hand_over(*arguments: str) -> int:
    """Run a program on this process's own terminal and return its status.

    Signals from the keyboard are the program's alone while it runs.
    """
    # A handler, for what is ignored would stay ignored in the program.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.Popen(arguments).wait()
    finally:
        signal.signal(signal.SIGINT, before)


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
