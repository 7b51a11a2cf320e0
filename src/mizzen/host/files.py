"""Write and hash files so that a crash leaves either the old or the new one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mizzen.model.errors import Failure

CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing(path: Path, mode: int = 0o644) -> Iterator[int]:
    """Yield a descriptor of a new file that takes ``path``'s place if the block succeeds.

    The folder is opened once and named by its descriptor: from then on only the rights to that
    folder itself matter, which a process that gives up privileges in the block may still have.
    Until then the file has no name, so a process that is killed leaves nothing; where the file
    system knows no such files, it has a name that begins with a dot.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        temporary = f".{path.name}.{secrets.token_hex(4)}"
        file = _nameless(folder, mode)
        named = file is None
        if file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(temporary, flags, mode, dir_fd=folder)
        try:
            yield file
            os.fsync(file)
            if not named:  # in two steps, as a link takes nobody's place
                os.link(f"/proc/self/fd/{file}", temporary, dst_dir_fd=folder)
                named = True
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            if named:
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(file)
    finally:
        os.close(folder)


def _nameless(folder: int, mode: int) -> int | None:
    """Open a new file that has no name; None if the file system of this folder has none such."""
    try:
        return os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, mode, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return None


@contextlib.contextmanager
def locked(path: Path, busy: Failure | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created and stays.

    busy: raised if somebody else holds it; without, wait for them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy is not None else 0))
        except BlockingIOError as error:
            raise busy or error from error
        yield


@contextlib.asynccontextmanager
async def turn(path: Path, *, shared: bool = False) -> AsyncIterator[None]:
    """Hold the same lock as ``locked``, letting other tasks run and cancel while it waits.

    shared: with all others who share it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)  # flock has no event to wait for
        yield


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the system's refusals inside the block into a Failure that says what to do."""
    try:
        yield
    except OSError as error:
        fixes = {
            errno.ENOSPC: "free some disk space",
            errno.EDQUOT: "free some disk space",
            errno.EACCES: "run it as root",
            errno.EPERM: "run it as root",
        }
        where = f"{error.filename}: " if error.filename else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Failure(what, where + reason, fixes.get(error.errno or 0, "")) from error
