"""Targets for what comes through the ring, and for files: see ``targets``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import struct
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

from mizzen.host import cpio
from mizzen.introspection.dump import DumpFile
from mizzen.introspection.kernel import image
from mizzen.introspection.memory.physical import PAGE, BadAddress
from mizzen.model.errors import Failure
from mizzen.sessions import channel as ring
from mizzen.sessions import requests
from mizzen.sessions.channel import Channel, FrameType, Hello
from mizzen.sessions.files import archive as archives
from mizzen.sessions.files.archive import Item, Left
from mizzen.sessions.files.extract import Extractor
from mizzen.sessions.fuse import protocol
from mizzen.sessions.fuse.protocol import Operation
from mizzen.sessions.fuse.server import Server
from mizzen.sessions.inject import blob
from mizzen.sessions.serving import Requests
from mizzen.sessions.stream import Stream

from .memory import Checked, patch

TOKEN = "0123456789abcdef" * 2
STREAMS = 4
UNANSWERED = {Operation.FORGET, Operation.BATCH_FORGET, Operation.INTERRUPT}
OVERLAY = (
    cpio.directory("guest"),
    cpio.file("log", b"last lines"),
    cpio.link("etc/passwd", "/guest/etc/passwd"),
)
NAMES = (
    b".", b"a", b"a/b", b"a/b/c", b"..", b"../outside", b"/etc", b"a//b", b"l", b"l/x", b"",
    b"x" * 255,
)  # fmt: skip
KINDS = (stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o600,
         stat.S_IFREG | 0o7777, stat.S_IFDIR)  # fmt: skip
TARGETS = (b"../outside", b"/", b"..", b"a", b"")


class Bytes:
    """Takes numbers off some bytes; there are no more than a few."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)

    def take(self, size: int) -> bytes:
        taken, self.data = bytes(self.data[:size]), self.data[size:]
        return taken

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size), "little")


class Carrier:
    """What streams are carried by (``stream.Carrier``), without an end."""

    room = 1 << 16

    def __init__(self) -> None:
        self.posted: deque[tuple[int, int]] = deque(maxlen=64)

    def check(self) -> None:
        """The session goes on."""

    def send(self, kind: FrameType, stream: int, payload: bytes) -> None:
        self.posted.append((kind, stream))

    def post(self, kind: FrameType, stream: int, payload: bytes = b"") -> None:
        self.posted.append((kind, stream))

    async def progress(self) -> None:
        await asyncio.sleep(0)

    def forget(self, stream: int) -> None:
        """It is over."""


def channel(data: bytes) -> None:
    """Receive, and let streams take, what a guest does between our looks."""
    header = ring.HEADER.pack(TOKEN.encode(), ring.VERSION, ring.RING_PAGES)
    start = bytearray(3 * PAGE)
    start[: len(header)] = header
    # All pages of the rings are one: what we send the guest comes back, as if it had sent it.
    ring.LIST.pack_into(start, PAGE, *[2] * ring.PAGES)
    memory, given = Checked(bytes(start)), Bytes(data)
    patch(memory.data, given.take(given.number()))
    with contextlib.suppress(Failure, BadAddress):
        opened = Channel(memory, Hello(0, PAGE), TOKEN)
        streams = [Stream(Carrier(), number, "cannot") for number in range(STREAMS)]
        while given.data:
            kind = given.number()
            patch(memory.data, given.take(given.number()))
            if kind & 1:
                opened.send(FrameType.INPUT, kind, bytes(min(opened.room, kind << 8)))
            assert 0 <= opened.room <= ring.FRAME_MAX
            frames = opened.receive()
            assert sum(len(frame.payload) for frame in frames) <= ring.RING_SIZE
            for frame in frames:
                _take(streams[frame.stream % STREAMS], frame, received=bool(kind & 2))
            opened.beat()


def _take(stream: Stream, frame: ring.Frame, *, received: bool) -> None:
    stream.take(frame.kind, frame.payload)
    kept = sum(len(payload) for _, payload in stream._frames)
    assert kept <= ring.WINDOW + 2 * ring.FRAME_MAX
    if received and stream._frames:
        waiting = stream.receive()
        try:
            waiting.send(None)
        except StopIteration as done:
            assert done.value.stream == stream.number
        waiting.close()


def reports(data: bytes) -> None:
    """Read what stage 1 and stage 2 say of themselves."""
    page = data[:PAGE].ljust(PAGE, data[-1:] or b"\0")
    assert len(blob.read_hooks(page)) <= blob.HOOKS_MAX
    assert len(blob.read_report(page).hello) <= blob.HELLO_MAX
    assert ring.printable(data).isprintable()
    with contextlib.suppress(Failure):
        hello = ring.read_hello(data)
        assert not hello.header % PAGE
        assert not hello.list % PAGE
    with contextlib.suppress(Failure):
        requests.read_ready(data)
    with contextlib.suppress(Failure):
        taken = Requests()
        for at in range(0, len(data), 7):
            for request in taken.feed(data[at : at + 7]):
                assert len(request) <= ring.FRAME_MAX


def dump(data: bytes) -> None:
    """Open a file as a dump, and look for a kernel in it."""
    file = os.memfd_create("dump")
    try:
        os.write(file, data)
        with (
            contextlib.suppress(Failure, BadAddress),
            closing(DumpFile(Path(f"/proc/self/fd/{file}"))) as opened,
        ):
            blocks = list(opened.blocks())
            assert sum(block.size for block in blocks) <= len(data)
            for block in blocks:
                assert len(opened.read(block.start, block.size)) == block.size
            image.release_of_any([opened])
            image.find([opened])
    finally:
        os.close(file)


def archive(data: bytes) -> None:
    """Extract an archive into a folder between others, which must stay as they are."""
    given = Bytes(data)
    content = data[1:] if given.number() & 1 else b"".join(_entries(given)) + archives.trailer()
    with tempfile.TemporaryDirectory() as name:
        around = Path(name)
        (around / "outside").mkdir()
        (around / "outside/kept").write_bytes(b"kept")
        (around / "inside/tree").mkdir(parents=True)
        (around / "inside/tree/l").symlink_to(around / "outside")
        (around / "inside/kept").write_bytes(b"kept")
        before = _listed(around, around / "inside/tree")
        with contextlib.suppress(Failure, OSError), Extractor(around / "inside", "tree") as made:
            step = 1 + len(content) // 8
            for at in range(0, len(content), step):
                made.feed(content[at : at + step])
        assert _listed(around, around / "inside/tree") == before
        _leaves_nothing_half(around / "inside")


def _entries(given: Bytes) -> Iterator[bytes]:
    while given.data:
        name, kind, left = given.number(), given.number(), given.number()
        item = Item(
            (), KINDS[kind % len(KINDS)], Left(left % 3), given.number(2) << 20,
            given.number(2) << (given.number() % 40),
        )  # fmt: skip
        content = given.take(given.number())
        if stat.S_ISLNK(item.mode):
            content = TARGETS[left % len(TARGETS)]
        elif stat.S_ISDIR(item.mode):
            content = b""
        yield archives._entry(NAMES[name % len(NAMES)], item, content)


def _listed(folder: Path, but: Path) -> list[tuple[str, int, bytes]]:
    """Return all there is but what is below one folder, with mode and content."""
    found = []
    for path in sorted(folder.rglob("*")):
        if but == path or but in path.parents:
            continue
        status = path.lstat()
        found.append((str(path), status.st_mode, path.read_bytes() if path.is_file() else b""))
    return found


def _leaves_nothing_half(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.name.startswith(".mizzen-")
        assert not path.lstat().st_mode & 0o7000


def fuse(data: bytes) -> None:
    """Answer requests of a guest's kernel."""
    given = Bytes(data)
    folder = os.open(_served(), os.O_PATH | os.O_DIRECTORY)
    with closing(_Closing(Server(folder, OVERLAY), folder)) as served:
        served.server.handle(data)
        while given.data:
            operation, node = given.number(), given.number() or given.number(8)
            body = given.take(given.number())
            head = protocol.REQUEST.pack(40 + len(body), operation, 7, node, 0, 0, 1, 0)
            reply = served.server.handle(head + body)
            assert (reply is None) == (operation in UNANSWERED)
            if reply is not None:
                size, error, unique = protocol.REPLY.unpack_from(reply)
                assert (size, unique) == (len(reply), 7)
                assert -512 < error <= 0
                assert size <= protocol.READ_MAX + protocol.REPLY.size
                assert b"secret" not in reply


class _Closing:
    def __init__(self, server: Server, folder: int) -> None:
        self.server, self.folder = server, folder

    def close(self) -> None:
        self.server.close()
        os.close(self.folder)


@cache
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _served() -> Path:
    """Return a folder to serve, with what must not be served beside it."""
    around = Path(_place().name)
    folder = around / "served"
    if not folder.exists():
        (around / "secret").write_text("secret")
        (folder / "etc").mkdir(parents=True)
        (folder / "etc/passwd").write_text("below")
        (folder / "etc/hosts").write_text("localhost")
        (folder / "out").symlink_to(around)
        (folder / "file").write_bytes(struct.pack("<999I", *range(999)))
        os.mkfifo(folder / "fifo")
    return folder


def clean() -> None:
    """Take away what targets keep from one input to the next."""
    if _place.cache_info().currsize:
        _place().cleanup()
        _place.cache_clear()
