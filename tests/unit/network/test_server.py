"""What the daemon's socket takes, from whom, and what it does with what it does not take."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from memory_plane import MemoryPlane
from network_daemon import Running, running

from mizzen.host import sockets
from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Link, Publication, Transport
from mizzen.network import protocol, server
from mizzen.network.client import Network
from mizzen.network.plane import Parts
from mizzen.network.server import Guard

STATUS = protocol.encode(protocol.Call(protocol.VERSION, protocol.GetStatus()))
OPEN = protocol.encode(protocol.Call(protocol.VERSION, protocol.OpenLink("a")))
NOBODY = 65534


def scenario(
    folder: Path,
    act: Callable[[Running], Awaitable[None]],
    plane: MemoryPlane | None = None,
    guard: Guard | None = None,
) -> None:
    async def run() -> None:
        async with running(folder, plane, guard) as found:
            await act(found)

    asyncio.run(run())


@contextlib.contextmanager
def connected(one: Running) -> Iterator[socket.socket]:
    with sockets.connect(one.network.path, socket.SOCK_SEQPACKET) as connection:
        yield connection


async def received(connection: socket.socket) -> bytes:
    """Return the next packet; empty where the daemon has hung up."""
    try:
        return await asyncio.get_running_loop().sock_recv(connection, protocol.MESSAGE_MAX)
    except ConnectionResetError:
        return b""


async def reply(connection: socket.socket) -> protocol.AnyReply:
    return protocol.decode_reply(await received(connection))


def send(connection: socket.socket, packet: bytes, *descriptors: int) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([packet], [rights] if descriptors else [])


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        b"\xff\xfe",
        b"{}",
        b"[" * 60_000,
        b'{"version":1,"request":{"do":"nothing"}}',
        b'{"version":1,"request":{"do":"status","more":1}}',
        b'{"version":2,"request":{"do":"status"}}',
        b'{"version":1,"request":{"do":"address.request","tag":1,"prefix":"10.0.0.0/24"}}',
        b'{"version":1,"request":{"do":"link.list","after":1.5}}',
        b'{"version":1,"request":{"do":"drain","targets":["10.0.0.1"],"seconds":1e999}}',
        b'{"version":1,"request":{"do":"drain","targets":["10.0.0.1:x"],"seconds":1}}',
        b'{"version":1,"request":{"do":"drain","targets":["10.0.0.1"],"seconds":-1}}',
        b'{"version":1,"request":{"do":"%s"}}' % (b"x" * 60_000),
        b" " * (protocol.MESSAGE_MAX + 1),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_answered(
    tmp_path: Path, packet: bytes
) -> None:
    async def act(one: Running) -> None:
        with connected(one) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            send(connection, packet)
            assert isinstance(await reply(connection), protocol.Refused)
            send(connection, STATUS)
            assert isinstance(await reply(connection), protocol.Status)
        assert one.plane.changes == []

    scenario(tmp_path, act)


def test_descriptors_that_nobody_asked_for_are_refused_and_closed(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        with connected(one) as connection, contextlib.ExitStack() as stack:
            null = os.open("/dev/null", os.O_RDONLY)
            stack.callback(os.close, null)
            send(connection, STATUS)
            assert await received(connection)
            before = open_descriptors()
            for packet, count, why in (
                (STATUS, 1, "no use for"),
                (OPEN, 2, "no use for"),
                (OPEN, 1, "is no network namespace"),
                (STATUS, 40, "too many descriptors"),
                (b"x", 3, "JSON"),
            ):
                send(connection, packet, *[null] * count)
                told = await reply(connection)
                assert isinstance(told, protocol.Refused)
                assert why in told.why
            assert open_descriptors() == before

    scenario(tmp_path, act)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/proc/self/ns/net", "the host's own network namespace"),
        ("/proc/self/ns/uts", "is no network namespace"),
        ("/dev/null", "is no network namespace"),
    ],
)
def test_a_descriptor_must_be_of_another_network_namespace(path: str, why: str) -> None:
    with Path(path).open() as file, pytest.raises(Failure, match=why):
        server.check_namespace(file.fileno())


def test_a_link_in_a_namespace_has_no_tap(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("makes a network namespace")

    class Looking(MemoryPlane):
        async def open_link(self, link: Link, namespace: int | None) -> int | None:
            assert namespace is not None
            self.seen = os.fstat(namespace).st_ino
            return await super().open_link(link, namespace)

    plane = Looking()

    async def act(one: Running) -> None:
        await one.network.request_address("machine:a", "10.70.0.0/24")
        waiting = await asyncio.create_subprocess_exec(
            "unshare", "--net", "sh", "-c", "echo; exec cat",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        await waiting.stdout.readline()
        namespace = os.open(f"/proc/{waiting.pid}/ns/net", os.O_RDONLY)
        try:
            link, tap = await one.network.open_link("a", namespace=namespace)
            assert tap is None
            assert link.interface == "mizzen-1"
            assert plane.seen == os.fstat(namespace).st_ino
        finally:
            os.close(namespace)
            waiting.stdin.close()
            await waiting.wait()

    scenario(tmp_path, act, plane)


CLIENT = """
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[1])
connection.send(sys.argv[2].encode())
print(connection.recv(65536).decode(), flush=True)
print(connection.recv(65536).decode(), flush=True)
"""


@pytest.mark.parametrize(
    ("gid", "groups", "may"),
    [(NOBODY, "", False), (NOBODY, "7", False), (NOBODY, "7,3", True), (3, "", True)],
)
def test_root_and_members_of_the_group_may_ask(
    tmp_path: Path, gid: int, groups: str, *, may: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("becomes other users")
    folder = Path(os.environ["TMPDIR"], f"guard-{os.getpid()}-{gid}-{may}-{len(groups)}")
    folder.mkdir(mode=0o755)

    async def act(one: Running) -> None:
        one.network.path.chmod(0o666)
        as_user = ["--reuid", str(NOBODY), "--regid", str(gid)]
        as_user += ["--groups", groups] if groups else ["--clear-groups"]
        asking = await asyncio.create_subprocess_exec(
            "setpriv", *as_user, "/usr/bin/python3", "-c", CLIENT, one.network.path, STATUS,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert asking.stdout is not None
        told = protocol.decode_reply((await asking.stdout.readline()).strip())
        if may:
            assert isinstance(told, protocol.Status)
            asking.kill()
        else:
            assert isinstance(told, protocol.Refused)
            assert told.why == f"user {NOBODY} is not of its group"
            assert (await asking.stdout.readline()).strip() == b""  # and was hung up on
        await asking.wait()
        assert (await one.network.status()).mode == "kernel"

    try:
        scenario(folder, act, guard=Guard(group=3))
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_the_daemons_own_user_may_ask_where_there_is_no_group() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        Guard().check(one)


def test_a_caller_that_says_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "TIME_MAX", 0.05)

    async def act(one: Running) -> None:
        with connected(one) as connection:
            assert await received(connection) == b""

    scenario(tmp_path, act)


def test_a_caller_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        loop = asyncio.get_running_loop()
        with connected(one) as connection:
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                while True:
                    await loop.sock_sendall(connection, STATUS)
            assert (await one.network.status()).mode == "kernel"

    scenario(tmp_path, act)


def test_callers_beyond_what_it_takes_at_once_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)

    async def act(one: Running) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                connection = stack.enter_context(connected(one))
                send(connection, STATUS)
                assert await received(connection)
            third = stack.enter_context(connected(one))
            send(third, STATUS)
            waiting = asyncio.create_task(received(third))
            assert not (await asyncio.wait({waiting}, timeout=0.05))[0]
            connection.close()
            assert await waiting

    scenario(tmp_path, act)


def test_draining_keeps_nobody_else_from_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(server, "DRAINS_MAX", 1)

    async def act(one: Running) -> None:
        one.plane.open = 2
        seen = []
        async for draining in one.network.drain(["10.70.0.2:80"], 30):
            seen.append((draining.open, draining.done))
            if len(seen) == 1:
                assert (await one.network.status()).mode == "kernel"
                with pytest.raises(Failure, match="1 wait already"):
                    async for _ in one.network.drain(["10.70.0.2"], 30):
                        pass
            one.plane.count(2 - len(seen))
        assert seen == [(2, False), (1, False), (0, True)]

    scenario(tmp_path, act)


def test_draining_ends_when_the_caller_has_gone(tmp_path: Path) -> None:
    ended = asyncio.Event()

    class Told(MemoryPlane):
        async def drain(self, targets, seconds):
            try:
                async for one in super().drain(targets, seconds):
                    yield one
            finally:
                ended.set()

    plane = Told()
    plane.open = 1

    async def act(one: Running) -> None:
        async for _ in one.network.drain(["10.70.0.2"], 3600):
            break
        await ended.wait()

    scenario(tmp_path, act, plane)


def test_what_nobody_foresaw_is_logged_and_told_and_the_daemon_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(MemoryPlane):
        async def up(self) -> frozenset[str]:
            raise RuntimeError("odd")

    async def act(one: Running) -> None:
        with pytest.raises(Failure, match="RuntimeError: odd; see: journalctl"):
            _ = [link async for link in one.network.links()]
        assert (await one.network.status()).links == 0

    scenario(tmp_path, act, Odd())
    assert caplog.records[-1].exc_info


class Gated(MemoryPlane):
    """Changes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.begun = asyncio.Event(), asyncio.Event()

    async def change(self, before: Parts, after: Parts) -> None:
        self.begun.set()
        await self.gate.wait()
        await super().change(before, after)


def published(name: str, port: int) -> Publication:
    return Publication(name, (Forward("", port, Transport.TCP, "127.0.0.1", 1),))


def test_a_change_that_was_begun_is_brought_to_its_end_when_the_daemon_is_told_to_end(
    tmp_path: Path,
) -> None:
    plane = Gated()
    plane.mode = "user"

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            one = await stack.enter_async_context(running(tmp_path, plane))
            asked = asyncio.create_task(one.network.publish([published("web", 80)]))
            await plane.begun.wait()
            closing = asyncio.create_task(stack.aclose())
            await asyncio.wait({closing}, timeout=0.05)
            plane.gate.set()
            await closing
            await asked  # it was answered

    asyncio.run(run())
    assert plane.carried.publications == (published("web", 80),)


def test_a_caller_that_leaves_does_not_stop_the_change_it_asked_for(tmp_path: Path) -> None:
    plane = Gated()
    plane.mode = "user"

    async def act(one: Running) -> None:
        asked = asyncio.create_task(one.network.publish([published("web", 80)]))
        await plane.begun.wait()
        asked.cancel()
        plane.gate.set()
        await one.network.publish([published("api", 81)])
        assert [each.name async for each in one.network.publications()] == ["api", "web"]

    scenario(tmp_path, act, plane)


def test_changes_are_made_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Gated()
    plane.mode = "user"

    async def act(one: Running) -> None:
        first = asyncio.create_task(one.network.publish([published("a", 80)]))
        await plane.begun.wait()
        monkeypatch.setattr(protocol, "TIME_MAX", 0.05)
        with pytest.raises(Failure, match="busy with others' requests"):
            await one.network.publish([published("b", 80)])
        plane.gate.set()
        await first

    scenario(tmp_path, act, plane)


def test_a_client_asks_again_where_a_daemon_died_and_another_began(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "net.sock"
        dying = sockets.listen_packets(path, 0o600, None, 8)
        dying.settimeout(0)
        asked = asyncio.create_task(Network(path).status())
        loop = asyncio.get_running_loop()
        with dying:
            connection, _ = await loop.sock_accept(dying)
            await loop.sock_recv(connection, 100)
            connection.close()
        async with running(tmp_path):
            assert (await asked).mode == "kernel"

    asyncio.run(run())


def test_a_client_tells_that_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"nobody answers at .*; run: sudo mizzen net daemon"):
        asyncio.run(Network(tmp_path / "net.sock").status())


def test_a_request_that_is_too_large_is_not_sent(tmp_path: Path) -> None:
    async def act(one: Running) -> None:
        with pytest.raises(Failure, match="more than 65536; ask for less at once"):
            await one.network.unpublish("x" * 70_000)

    scenario(tmp_path, act)
