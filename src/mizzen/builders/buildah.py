"""buildah as this host lets it run, and the containers it works in.

Images live in buildah's own storage, so that ``buildah images`` shows them. Every container made
here carries the process that made it, by pid and start time, in its name or, where ``build``
names it, in a host entry. What a killed process left is found by that and removed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from mizzen.engine.operation import TemporaryFailure
from mizzen.host.paths import Folders
from mizzen.host.process import Completed, ProcessId, run, start_time, which
from mizzen.model.errors import Failure
from mizzen.store import database, facts

from . import mounts

OWNER = re.compile(r"mizzen-(\d{1,10})-(\d{1,20})-\d+")
STORAGES = ((), ("--storage-driver", "overlay"), ("--storage-driver", "vfs"))
"""Tried in this order. Where overlay is not possible, buildah by itself takes vfs once and then
stumbles over the folder it left for overlay."""

TEMPORARY = re.compile(
    r"dial (tcp|udp)|i/o timeout|handshake timeout|deadline exceeded|connection (refused|reset)"
    r"|network is unreachable|server misbehaving|unexpected EOF|toomanyrequests"
    r"|status[a-z :]{0,30}(429|5\d\d)\b",
    re.IGNORECASE,
)
"""What buildah says of a network or a registry that may work later."""

CROSSED = re.compile(
    'checking if cached image exists|locating image with ID "[0-9a-f]+": image not known'
)
"""What buildah 1.28 says of an image that somebody removes while it looks at all of them."""

ATTEMPTS = 8
"""Of what is crossed. With images removed all the time, a list was once in eight times."""

CONTAINED = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Processes that end with what began them, also those that have left its session."""

ABOUT_STORAGE = re.compile(r"graph ?driver|overlay|mount", re.IGNORECASE)
T = TypeVar("T")
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Buildah:
    """How buildah is called here.

    prefix: the beginning of a command whose mounts end with it; see ``mounts``.
    options: given before the subcommand.
    isolation: of RUN steps, "oci" or "chroot".
    """

    prefix: tuple[str, ...]
    options: tuple[str, ...]
    isolation: str

    @property
    def command(self) -> tuple[str, ...]:
        """The beginning of a command that ends in a subcommand."""
        return (*self.prefix, "buildah", *self.options)

    @property
    def contained(self) -> tuple[str, ...]:
        """Like ``command``; all processes that come of it end with it, and it with this one.

        The former needs a process namespace, which only root can make.
        """
        bounds = CONTAINED if self.prefix else ()
        return ("setpriv", "--pdeathsig", "KILL", *self.prefix, *bounds, "buildah", *self.options)

    async def __call__(
        self, *arguments: str | Path, what: str, scratch: Path | None = None
    ) -> Completed:
        """Run a subcommand to its end. scratch: where it keeps temporary files."""
        env = {"TMPDIR": str(scratch)} if scratch else None
        command = (*self.command, *arguments)
        return await uncrossed(lambda: run(*command, what=what, env=env, explain=explain))

    @property
    def inside(self) -> tuple[str, ...]:
        """The beginning of a command that sees images' files with their true owners.

        Users other than root need a user namespace, which buildah enters.
        """
        return (*self.command, "unshare") if os.geteuid() else self.prefix

    @contextlib.asynccontextmanager
    async def container(self, image: str, what: str) -> AsyncIterator[str]:
        """Yield the name of a working container of an image that is in the storage."""
        name = mark()
        try:
            yield (await self("from", "--pull-never", "--name", name, image, what=what)).text
        finally:
            with contextlib.suppress(Failure):
                await self("rm", name, what=what)


def mark() -> str:
    """Return a new mark of this process, good as a host's or a container's name."""
    return f"mizzen-{os.getpid()}-{start_time(os.getpid())}-{next(_numbers)}"


def abandoned(name: str) -> bool:
    """Whether a name is a mark of a process that has ended."""
    found = OWNER.match(name)
    return found is not None and not ProcessId(int(found[1]), int(found[2])).alive


async def here(folders: Folders) -> Buildah:
    """Return how buildah runs on this host, found out by running it and then remembered.

    Probed are the storage (overlay may not be possible inside a container; then vfs) and
    whether RUN steps can be put into a container of the OCI runtime's; if not, they run in a
    chroot. Raises Failure if buildah is missing or no storage works.
    """
    key = _circumstances()
    with contextlib.closing(database.connect(folders.database)) as connection:
        if known := facts.recall(connection, key):
            return msgspec.json.decode(known, type=Buildah)
        probed = await _probe()
        facts.remember(connection, key, msgspec.json.encode(probed).decode())
    return probed


def _circumstances() -> str:
    """Return what the probe's findings hold for: user, buildah, and this boot of the kernel."""
    program = Path(which("buildah")).stat()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"buildah {os.geteuid()} {program.st_ino} {program.st_mtime_ns} {boot}"


async def _probe() -> Buildah:
    refusal: Failure | None = None
    prefix = await mounts.own()
    for options in STORAGES:
        try:
            return await _try(prefix, options)
        except Failure as failure:
            refusal = refusal or failure
            if not ABOUT_STORAGE.search(failure.why):
                break  # another driver would not help, and would leave its mark on the storage
    assert refusal is not None
    raise refusal


async def _try(prefix: tuple[str, ...], options: tuple[str, ...]) -> Buildah:
    what = "cannot use buildah"
    plain, oci = Buildah(prefix, options, "chroot"), Buildah(prefix, options, "oci")
    async with plain.container("scratch", what) as container:
        with _tiny_program() as program:
            await plain("add", container, program, "/true", what=what)
        with contextlib.suppress(Failure):
            await oci(
                "run", "--isolation", "oci", "--network", "host", container, "/true", what=what
            )
            return oci
    return plain


@contextlib.contextmanager
def _tiny_program() -> Iterator[Path]:
    """Yield a static x86-64 program that exits with 0: nothing else runs in an empty image."""
    code = bytes.fromhex("6a3c5831ff0f05")  # push 60 (exit); pop rax; xor edi, edi; syscall
    size, base = 120 + len(code), 0x400000
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    folder = Path(tempfile.mkdtemp(prefix="mizzen-"))
    try:
        program = folder / "true"
        program.write_bytes(header + code)
        program.chmod(0o755)
        yield program
    finally:
        shutil.rmtree(folder)


async def sweep(buildah: Buildah, own: str = "") -> None:
    """Remove working containers whose makers have ended, and those with a mark of one's own."""
    what = "cannot tidy up buildah's containers"
    listed = await buildah("containers", "--all", "--json", what=what)
    containers = json.loads(listed.text or "null") or []
    left = [entry["id"] for entry in containers if abandoned(entry["containername"])]
    unknown = [entry["id"] for entry in containers if not OWNER.match(entry["containername"])]
    if unknown:
        info = json.loads((await buildah("info", what=what)).text)["store"]
        records = Path(info["GraphRoot"]) / f"{info['GraphDriverName']}-containers"
        left += [name for name in unknown if _left(records / name / "userdata", own)]
    if left:
        with contextlib.suppress(Failure):  # another build may be at it too
            await buildah("rm", *left, what=what)


def _left(folder: Path, own: str) -> bool:
    """Whether what buildah keeps of a container has the mark of a process that has ended, or own.

    A buildah that was killed as it made the container may not have renamed that file yet; it is
    done here, since buildah removes no container without it.
    """
    record = folder / "buildah.json"
    try:
        for file in (record, *folder.glob(f".tmp-{record.name}*")):
            if not file.exists():
                continue
            marks = [found[0] for found in OWNER.finditer(file.read_text())]
            if any(abandoned(one) or one == own for one in marks):
                if not record.exists():
                    file.rename(record)
                return True
    except OSError:  # it may not be read
        return False
    return False


async def uncrossed(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what an attempt does, made again while others' removals of images cross it."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except Failure as failure:
            if not CROSSED.search(failure.why):
                raise
    return await attempt()


@contextlib.contextmanager
def retriable() -> Iterator[None]:
    """Turn a failure inside the block for which a network is to blame into a temporary one."""
    try:
        yield
    except Failure as failure:
        if "exit status" in failure.why or not TEMPORARY.search(failure.why):
            raise  # the former is a program's that a step ran
        temporary = TemporaryFailure(failure.what, failure.why, "check the network")
        for note in getattr(failure, "__notes__", ()):
            temporary.add_note(note)
        raise temporary from failure


def explain(output: str) -> tuple[str, str]:
    """Tell from buildah's output why it failed, and what to do."""
    if "no space left on device" in output.lower():
        return "No space left on device", "free some disk space"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    last = errors[-1] if errors else lines[-1] if lines else "buildah failed"
    why = re.sub(r"^error:?\s*", "", last, flags=re.IGNORECASE)
    if helper := re.match(r'could not find "([a-z-]+)" in one of', why):
        return f"its helper {helper[1]} is not installed", f"run: apt-get install {helper[1]}"
    return why, ""
