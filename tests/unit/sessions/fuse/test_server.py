import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.host import cpio
from mizzen.sessions.fuse import nodes, overlay, protocol, tree
from mizzen.sessions.fuse.protocol import Operation
from mizzen.sessions.fuse.server import Server

ROOT = 1
OFFERED = 0x3FFFFFFF


class Peer:
    """Asks as a kernel does, and looks at every reply's form."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(self, operation: int, node: int = ROOT, body: bytes = b"") -> bytes | int:
        """Return a reply's payload, or its errno."""
        header = protocol.REQUEST.pack(40 + len(body), operation, 7, node, 0, 0, 1, 0)
        return payload(self.server.handle(header + body))

    def tell(self, operation: int, node: int, body: bytes) -> None:
        header = protocol.REQUEST.pack(40 + len(body), operation, 7, node, 0, 0, 1, 0)
        assert self.server.handle(header + body) is None

    def look_up(self, path: str) -> int:
        node = ROOT
        for name in path.split("/"):
            answer = self.ask(Operation.LOOKUP, node, name.encode() + b"\0")
            assert isinstance(answer, bytes), os.strerror(answer)
            (node,) = struct.unpack_from("<Q", answer)
        return node

    def mode(self, node: int) -> int:
        answer = self.ask(Operation.GETATTR, node, bytes(16))
        return protocol.ATTRIBUTES.unpack_from(answer, 16)[9]

    def read(self, node: int, offset: int = 0, size: int = 4096) -> bytes | int:
        body = protocol.READ_IN.pack(0, offset, size, 0, 0, 0, 0)
        return self.ask(Operation.READ, node, body)

    def list(self, node: int, size: int = 4096, *, plus: bool = False) -> list[str]:
        names: list[str] = []
        offset = 0
        while True:
            body = protocol.READ_IN.pack(0, offset, size, 0, 0, 0, 0)
            answer = self.ask(Operation.READDIRPLUS if plus else Operation.READDIR, node, body)
            assert isinstance(answer, bytes), os.strerror(answer)
            if not answer:
                return names
            assert len(answer) <= size
            at = 0
            while at < len(answer):
                at += 128 if plus else 0
                _, offset, length, _ = protocol.DIRENT.unpack_from(answer, at)
                names.append(answer[at + 24 : at + 24 + length].decode())
                at += 24 + length + -length % 8


def payload(reply: bytes | None) -> bytes | int:
    assert reply is not None
    length, error, unique = protocol.REPLY.unpack_from(reply)
    assert (length, unique) == (len(reply), 7)
    if error:
        assert -512 < error < 0
        assert length == 16
        return -error
    return reply[16:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text("secret")
    path = tmp_path_factory.mktemp("tools")
    (path / "bin").mkdir()
    (path / "bin/sh").write_bytes(bytes(range(256)) * 1024)
    (path / "bin/sh").chmod(0o755)
    (path / "etc").mkdir()
    (path / "etc/passwd").write_text("of the folder")
    (path / "etc/hosts").write_text("localhost")
    (path / "out").symlink_to(outside)
    (path / "absolute").symlink_to("/etc/passwd")
    os.mkfifo(path / "fifo")
    (path / "many").mkdir()
    for number in range(300):
        (path / f"many/{number:03}").touch()
    return path


OVERLAY = [
    cpio.directory("guest", 0o700),
    cpio.file("log", b"last lines"),
    cpio.link("etc/passwd", "/guest/etc/passwd"),
    cpio.directory("out"),
    cpio.file("new/deep/file", b"deep"),
]


@contextlib.contextmanager
def serving(folder: Path, overlay: Iterable[cpio.Entry] = ()) -> Iterator[Server]:
    descriptor = os.open(folder, os.O_PATH)
    made = Server(descriptor, overlay)
    yield made
    made.close()
    os.close(descriptor)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, OVERLAY) as made:
        yield made


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Server]:
    with serving(folder) as made:
        yield made


@pytest.fixture
def peer(server: Server) -> Peer:
    made = Peer(server)
    answer = made.ask(Operation.INIT, 0, struct.pack("<IIII", 7, 36, 1 << 20, OFFERED))
    assert isinstance(answer, bytes)
    return made


def test_abilities_are_taken_of_those_offered(peer: Peer) -> None:
    answer = peer.ask(Operation.INIT, 0, struct.pack("<IIII", 7, 27, 1 << 20, 1 << 13))
    assert isinstance(answer, bytes)
    major, minor, ahead, flags, *_ = protocol.INIT_OUT.unpack(answer)
    assert (major, minor, ahead, flags) == (7, 27, protocol.READ_MAX, 1 << 13)
    assert len(answer) == 64


@pytest.mark.parametrize(("major", "minor"), [(6, 99), (7, 8)])
def test_an_old_protocol_is_refused(peer: Peer, major: int, minor: int) -> None:
    assert peer.ask(Operation.INIT, 0, struct.pack("<IIII", major, minor, 0, 0)) == errno.EPROTO


def test_a_newer_protocol_is_asked_to_speak_ours(peer: Peer) -> None:
    answer = peer.ask(Operation.INIT, 0, struct.pack("<IIII", 8, 3, 0, 0))
    assert isinstance(answer, bytes)
    assert protocol.INIT_OUT.unpack(answer)[0] == 7


def test_files_are_read_in_parts(peer: Peer) -> None:
    content = bytes(range(256)) * 1024
    node = peer.look_up("bin/sh")
    assert peer.read(node, 0, protocol.READ_MAX) == content[: protocol.READ_MAX]
    assert peer.read(node, 250_000, protocol.READ_MAX) == content[250_000:]
    assert peer.read(node, 1 << 40) == b""
    assert peer.read(node, 1 << 63) == errno.EINVAL
    assert peer.read(node, 0, 1 << 30) == errno.EINVAL
    assert peer.mode(node) == stat.S_IFREG | 0o755


def test_what_is_no_file_is_not_read(peer: Peer) -> None:
    assert peer.read(peer.look_up("bin")) == errno.EISDIR
    assert peer.read(peer.look_up("fifo")) == errno.EINVAL
    assert peer.read(peer.look_up("absolute")) == errno.EINVAL


@pytest.mark.parametrize("plus", [False, True])
def test_folders_are_listed_in_parts(peer: Peer, folder: Path, *, plus: bool) -> None:
    expected = [".", "..", *(f"{number:03}" for number in range(300))]
    assert peer.list(peer.look_up("many"), plus=plus) == expected
    assert peer.list(peer.look_up("many"), 200, plus=plus) == expected
    expected = sorted({*os.listdir(folder), "guest", "log", "new"})  # noqa: PTH208
    assert peer.list(ROOT, plus=plus)[2:] == expected


def test_symbolic_links_are_text(plain: Server) -> None:
    peer = Peer(plain)
    assert peer.ask(Operation.READLINK, peer.look_up("absolute")) == b"/etc/passwd"
    link = peer.look_up("out")
    assert peer.ask(Operation.LOOKUP, link, b"secret\0") == errno.ENOTDIR
    body = protocol.READ_IN.pack(0, 0, 4096, 0, 0, 0, 0)
    assert peer.ask(Operation.READDIR, link, body) == errno.ENOTDIR
    assert peer.ask(Operation.READLINK, peer.look_up("bin")) == errno.EINVAL


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/", b"a\0b", b"no end"])
def test_a_name_that_no_folder_holds_is_refused(peer: Peer, name: bytes) -> None:
    body = name if name == b"no end" else name + b"\0"
    assert peer.ask(Operation.LOOKUP, ROOT, body) == errno.EINVAL


def test_a_missing_name_is_remembered_by_the_guest(peer: Peer) -> None:
    assert peer.ask(Operation.LOOKUP, ROOT, b"nothing\0") == protocol.ABSENT
    assert peer.ask(Operation.LOOKUP, ROOT, b"x" * 256 + b"\0") == errno.ENAMETOOLONG


def test_entries_lie_over_the_folder(peer: Peer) -> None:
    assert peer.read(peer.look_up("log")) == b"last lines"
    assert peer.read(peer.look_up("new/deep/file"), 1, 2) == b"ee"
    assert peer.mode(peer.look_up("guest")) == stat.S_IFDIR | 0o700
    assert peer.mode(peer.look_up("out")) == stat.S_IFDIR | 0o755
    assert peer.list(peer.look_up("out")) == [".", ".."]
    assert peer.ask(Operation.READLINK, peer.look_up("etc/passwd")) == b"/guest/etc/passwd"
    assert peer.read(peer.look_up("etc/hosts")) == b"localhost"
    assert peer.list(peer.look_up("etc")) == [".", "..", "hosts", "passwd"]


@pytest.mark.parametrize("name", ["../x", "/x", "", "a//b", "a/."])
def test_entries_lie_nowhere_else(name: str) -> None:
    with pytest.raises(ValueError, match="leads elsewhere"):
        overlay.overlaid([cpio.file(name, b"")])


def test_a_forgotten_node_is_gone(folder: Path) -> None:
    with serving(folder) as server:
        peer = Peer(server)
        node = peer.look_up("many/007")
        assert peer.look_up("many/007") == node
        peer.tell(Operation.FORGET, node, struct.pack("<Q", 1))
        assert peer.read(node) == b""
        peer.tell(Operation.BATCH_FORGET, 0, struct.pack("<IIQQQQ", 2, 0, 1, 1, node, 1))
        assert peer.read(node) == errno.ESTALE
        assert peer.look_up("many/007") != node
        assert peer.mode(ROOT)


def test_more_nodes_than_there_may_be_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "NODES_MAX", 10)
    with serving(folder) as server:
        peer = Peer(server)
        assert len(peer.list(peer.look_up("many"), plus=True)) == 302
        assert peer.ask(Operation.LOOKUP, ROOT, b"etc\0") == errno.ENFILE


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_few_descriptors_stay_open(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/file").write_text(f"{number}")
    before = descriptors()
    with serving(tmp_path) as server:
        peer = Peer(server)
        files = [peer.look_up(f"{number}/file") for number in range(200)]
        for _ in range(2):
            assert [peer.read(node) for node in files] == [b"%d" % n for n in range(200)]
        assert descriptors() <= before + 1 + 2 * tree.DESCRIPTORS
    assert descriptors() == before


def test_what_takes_a_files_place_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("before")
    (tmp_path / "another").write_text("another")
    with serving(tmp_path) as server:
        peer = Peer(server)
        node = peer.look_up("folder/file")
        (tmp_path / "folder").rename(tmp_path / "elsewhere")
        (tmp_path / "folder").symlink_to("/etc")
        moved = peer.look_up("elsewhere/file")
        assert peer.read(moved) == b"before"
        server.close()  # nothing stays open from before
        (tmp_path / "link").symlink_to("/etc/passwd")
        (tmp_path / "link").rename(tmp_path / "elsewhere/file")
        assert peer.read(moved) == errno.ELOOP
        (tmp_path / "another").rename(tmp_path / "elsewhere/file")
        assert peer.read(moved) == errno.ESTALE
        assert peer.read(node) == errno.ENOTDIR


def test_nothing_is_changed(peer: Peer) -> None:
    for operation in (Operation.CREATE, Operation.UNLINK, Operation.SETATTR, Operation.WRITE):
        assert peer.ask(operation, ROOT, bytes(64)) == errno.EROFS
    assert peer.ask(22, ROOT, bytes(64)) == errno.ENOSYS


def test_a_guest_that_asks_to_open_is_told_to_keep_what_it_reads(server: Server) -> None:
    peer = Peer(server)
    peer.ask(Operation.INIT, 0, struct.pack("<IIII", 7, 23, 0, 0))
    opened = peer.ask(Operation.OPEN, peer.look_up("log"), bytes(8))
    assert opened == protocol.OPENED.pack(0, protocol.KEEP_CACHE, 0)
    assert peer.ask(Operation.OPEN, ROOT, bytes(8)) == errno.EINVAL
    assert isinstance(peer.ask(Operation.OPENDIR, ROOT, bytes(8)), bytes)
    peer.ask(Operation.INIT, 0, struct.pack("<IIII", 7, 31, 0, OFFERED))
    assert peer.ask(Operation.OPEN, ROOT, bytes(8)) == errno.ENOSYS


@given(request=st.binary(max_size=200))
def test_any_bytes_are_answered(server: Server, request: bytes) -> None:
    reply = server.handle(request)
    assert reply is None or len(reply) == struct.unpack_from("<I", reply)[0]


@given(
    operation=st.integers(0, 60) | st.sampled_from(list(Operation)),
    node=st.integers(0, 12) | st.integers(0, 2**64 - 1),
    body=st.binary(max_size=80)
    | st.sampled_from([b"bin\0", b"out\0", b"..\0", b"etc\0", b"passwd\0", b"secret\0"])
    | st.builds(
        protocol.READ_IN.pack,
        st.just(0), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1),
        *[st.just(0)] * 4,
    ),
)  # fmt: skip
@settings(max_examples=1500)
def test_no_request_breaks_the_server(
    plain: Server, operation: int, node: int, body: bytes
) -> None:
    header = protocol.REQUEST.pack(40 + len(body), operation, 7, node, 0, 0, 1, 0)
    reply = plain.handle(header + body)
    if operation in {Operation.FORGET, Operation.BATCH_FORGET, Operation.INTERRUPT}:
        assert reply is None
        return
    answer = payload(reply)
    if isinstance(answer, bytes):
        assert len(answer) <= protocol.READ_MAX
        assert b"secret" not in answer
