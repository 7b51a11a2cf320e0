"""Unpack a tar archive that nobody vouches for into a folder, and nothing outside it.

Every file is made relative to the folder it is in, which is opened name by name and never through
a symbolic link; archives made of a file system's tree need no more. Devices, FIFOs and sockets
are left out. Owners are kept where the user may give files away.

``main`` runs in a process of its own (see ``archive``): it can be killed, and has limited memory.
"""

from __future__ import annotations

import os
import resource
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

BYTES_MAX = 64 << 30
COUNT_MAX = 1 << 20
MEMORY_MAX = 2 << 30
"""Bytes of address space: tarfile believes the sizes of long names and extended headers."""
NAME_MAX = 4095
"""Characters of a path, as Linux takes them."""
DEPTH_MAX = 200
"""Folders below each other: what removes them again recurs."""
CHUNK = 1 << 20
SAY_EVERY = 16 << 20

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Rejected(Exception):  # noqa: N818 - Failure's reason, said by the process that unpacks
    """The archive cannot be unpacked; says why."""


def parts_of(name: str) -> list[str]:
    """Return a member's path below the folder. Raises Rejected if it leads outside."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in name:
        raise Rejected(f"its member {name[:100]!r} leads outside")
    if len(name) > NAME_MAX or len(parts) > DEPTH_MAX:
        raise Rejected(f"its member {name[:100]!r}... is too deep")
    return parts


@dataclass(slots=True)
class Unpacker:
    """Puts members into a folder. folder: its descriptor."""

    folder: int
    count: int = 0
    bytes: int = 0
    _folders: list[tuple[list[str], tarfile.TarInfo]] = field(default_factory=list)

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Make one member. Raises Rejected or OSError."""
        self._count()
        self.bytes += member.size
        if self.bytes > BYTES_MAX:
            raise Rejected(f"it has more than {BYTES_MAX >> 30} GiB")
        parts = parts_of(member.name)
        if not parts:
            return
        parent = self._open(parts[:-1], member.name, make=True)
        try:
            if member.isdir():
                self._folder(parent, parts, member)
            elif member.issym():
                _clear(parent, parts[-1])
                os.symlink(member.linkname, parts[-1], dir_fd=parent)
                _own(parent, parts[-1], member)
            elif member.islnk():
                self._link(parent, parts[-1], member)
            elif content := archive.extractfile(member):
                _clear(parent, parts[-1])
                _write(parent, parts[-1], member, content)
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Set the folders' modes and times, the deepest first: now nothing is added to them."""
        for parts, member in sorted(self._folders, key=lambda one: len(one[0]), reverse=True):
            parent = self._open(parts[:-1], member.name, make=False)
            try:
                # Ours must stay able to enter and remove them.
                mode = member.mode & 0o7777 | (0 if os.geteuid() == 0 else 0o700)
                os.chmod(parts[-1], mode, dir_fd=parent)
                _stamp(parent, parts[-1], member)
            finally:
                os.close(parent)

    def _count(self) -> None:
        self.count += 1
        if self.count > COUNT_MAX:
            raise Rejected(f"it has more than {COUNT_MAX} files")

    def _open(self, parts: list[str], name: str, *, make: bool) -> int:
        descriptor = os.dup(self.folder)
        try:
            for part in parts:
                if make:
                    try:
                        os.mkdir(part, 0o755, dir_fd=descriptor)
                        self._count()
                    except FileExistsError:
                        pass
                below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except NotADirectoryError:
            os.close(descriptor)
            raise Rejected(f"its member {name!r} is below what is no folder") from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _folder(self, parent: int, parts: list[str], member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(parts[-1], 0o755, dir_fd=parent)
        except FileExistsError:
            os.close(os.open(parts[-1], _DIRECTORY, dir_fd=parent))
        _own(parent, parts[-1], member)
        self._folders.append((parts, member))

    def _link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        parts = parts_of(member.linkname)
        if not parts:
            raise Rejected(f"its member {member.name!r} is a link to nothing")
        _clear(parent, name)
        try:
            origin = self._open(parts[:-1], member.name, make=False)
            try:
                os.link(
                    parts[-1], name, src_dir_fd=origin, dst_dir_fd=parent, follow_symlinks=False
                )
            finally:
                os.close(origin)
        except FileNotFoundError:
            raise Rejected(f"its member {member.name!r} is a link to nothing") from None


def _clear(parent: int, name: str) -> None:
    """Make room for a file: a later member of the same name counts."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise Rejected(f"its member {name!r} is a folder and something else") from None


def _write(parent: int, name: str, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=parent), "wb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
        _own(parent, name, member)
        file.flush()
        # Writing and chown clear set-user-id. Who serves the file must be able to read it.
        os.fchmod(file.fileno(), member.mode & 0o7777 | (0 if os.geteuid() == 0 else 0o400))
    _stamp(parent, name, member)


def _own(parent: int, name: str, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)


def _stamp(parent: int, name: str, member: tarfile.TarInfo) -> None:
    time = int(member.mtime) if abs(member.mtime) < 1 << 34 else 0
    os.utime(name, (time, time), dir_fd=parent, follow_symlinks=False)


def unpack(archive: BinaryIO, folder: Path, say: Callable[[int], None]) -> None:
    """Unpack an archive, compressed or not, into an empty folder.

    say: told now and then how many bytes of the archive were read.
    Raises Rejected or OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    said = 0
    try:
        unpacker = Unpacker(descriptor)
        with tarfile.open(fileobj=archive, mode="r|*", bufsize=CHUNK) as opened:
            for member in opened:
                unpacker.take(opened, member)
                opened.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
                if archive.tell() - said >= SAY_EVERY:
                    said = archive.tell()
                    say(said)
        unpacker.finish()
    except (tarfile.TarError, EOFError, ValueError, UnicodeError, OverflowError) as error:
        raise Rejected(f"it is no whole tar archive ({error})") from error
    finally:
        os.close(descriptor)


def _say(done: int) -> None:
    sys.stderr.write(f"{done}\n")
    sys.stderr.flush()


def main(archive: str, folder: str) -> None:
    """Unpack, saying on stderr how far it is, and at last what went wrong if anything did."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    try:
        with Path(archive).open("rb") as file:
            unpack(file, Path(folder), _say)
    except (Rejected, MemoryError) as error:
        sys.exit(str(error) or "it needs too much memory")
    except OSError as error:
        sys.exit(error.strerror or str(error))
