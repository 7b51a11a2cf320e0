import asyncio
import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.errors import Failure
from mizzen.model.network import Transport
from mizzen.model.service import Probe, ProbeKind, Release, ReleaseState, Service, ServicePort
from mizzen.publish import probe

HTTP = Probe(ProbeKind.HTTP, interval=0, attempts=3)


async def never_ends(release: Release) -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def has_ended(release: Release) -> str:
    return "exited with status 3"


def ignored(attempts: int) -> None:
    pass


def release_at(port: int) -> Release:
    return Release(
        "web",
        1,
        ReleaseState.STARTING,
        0.0,
        machine="web-1",
        addresses=("127.0.0.1",),
        ports=((80, port, Transport.TCP),),
    )


@contextlib.asynccontextmanager
async def serving(answer):
    """Yield the port of a server whose connections are all closed at the end."""
    writers = []

    async def handle(reader, writer):
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for writer in writers:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


def answering(*answers: bytes):
    """Serve these answers in turn, the last for ever."""
    left = list(answers)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return serving(answer)


def tried(wanted: Probe, *answers: bytes) -> int:
    """Return how many attempts it takes until such a server is ready."""

    async def main() -> int:
        async with answering(*answers) as port:
            service = Service("web", (ServicePort(8080, 80),), wanted)
            return await probe.ready(service, release_at(port), never_ends, ignored)

    return asyncio.run(main())


def answer(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d Said" % status, *headers, b"", body])


def test_a_server_that_gets_ready_later_is_ready_then():
    assert tried(HTTP, answer(503), answer(200)) == 2


def test_another_status_fails_and_is_told():
    with pytest.raises(Failure, match="was answered with 302, not 200"):
        tried(HTTP, answer(302))


def test_the_status_that_is_expected_may_be_any():
    assert tried(Probe(ProbeKind.HTTP, status=401), answer(401)) == 1


HOLDS = Probe(ProbeKind.HTTP, contains="it works", interval=0, attempts=2)


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"see: it works"),
        answer(200, b"it works, and more", b"Content-Length: 8"),
        answer(200, b"3\r\nit \r\n5;x=y\r\nworks\r\n0\r\n\r\n", b"transfer-encoding: Chunked"),
    ],
    ids=["until the end", "of a length", "chunked"],
)
def test_what_the_body_holds_counts_however_it_is_sent(said):
    assert tried(HOLDS, said) == 1


def test_a_body_without_what_is_expected_fails():
    with pytest.raises(Failure, match="answered without 'it works'"):
        tried(HOLDS, answer(200, b"it does not", b"Content-Length: 11"))


def test_a_body_is_not_read_beyond_its_bound(monkeypatch):
    monkeypatch.setattr(probe, "BODY_MAX", 100)
    with pytest.raises(Failure, match="answered without"):
        tried(HOLDS, answer(200, b"." * 100 + b"it works"))


@given(st.binary(max_size=200))
def test_nonsense_is_no_answer_and_breaks_nothing(said):
    once = Probe(ProbeKind.HTTP, contains="\x00 never \x00", timeout=5, attempts=1)
    with pytest.raises(Failure, match="is not ready"):
        tried(once, said)


@given(st.binary(max_size=200))
def test_nonsense_behind_a_head_breaks_nothing(body):
    once = Probe(ProbeKind.HTTP, contains="\x00 never \x00", timeout=5, attempts=1)
    with pytest.raises(Failure, match="is not ready"):
        tried(once, answer(200, body, b"Transfer-Encoding: chunked"))


def test_a_server_that_says_nothing_fails_at_the_timeout():
    async def main() -> None:
        async def silent(reader, writer):
            await reader.read()

        async with serving(silent) as port:
            slow = Probe(ProbeKind.HTTP, timeout=0.05, attempts=1)
            service = Service("web", (ServicePort(1, 80),), slow)
            await probe.ready(service, release_at(port), never_ends, ignored)

    with pytest.raises(Failure, match=r"no answer within 0\.05 s"):
        asyncio.run(main())


def closed_port() -> int:
    async def main() -> int:
        async with answering(b"") as port:
            return port

    return asyncio.run(main())


def attempt(wanted: Probe, port: int = 0, ended=never_ends, attempted=ignored) -> int:
    service = Service("web", (ServicePort(8080, 80),), wanted)
    return asyncio.run(probe.ready(service, release_at(port), ended, attempted))


def test_a_port_that_refuses_is_not_ready_and_every_attempt_is_told():
    seen: list[int] = []
    with pytest.raises(Failure, match=r"tried 3 times, last: .*connection refused"):
        attempt(Probe(ProbeKind.TCP, interval=0, attempts=3), closed_port(), attempted=seen.append)
    assert seen == [1, 2, 3]


def test_a_port_that_accepts_is_ready():
    async def main() -> int:
        async with answering(b"") as port:
            service = Service("web", (ServicePort(1, 80),), Probe(ProbeKind.TCP))
            return await probe.ready(service, release_at(port), never_ends, ignored)

    assert asyncio.run(main()) == 1


def test_the_end_of_its_machine_ends_the_probing_at_once():
    with pytest.raises(Failure, match="its machine has ended: exited with status 3"):
        attempt(Probe(ProbeKind.TCP, interval=3600), closed_port(), has_ended)


def test_a_release_is_ready_at_all_its_addresses_or_not_at_all():
    async def main() -> None:
        async with answering(answer(200)) as port:
            both = dataclasses.replace(release_at(port), addresses=("127.0.0.1", "127.0.0.2"))
            service = Service("web", (ServicePort(1, 80),), Probe(ProbeKind.HTTP, attempts=1))
            await probe.ready(service, both, never_ends, ignored)

    with pytest.raises(Failure, match=r"127\.0\.0\.2 port .* refused, while 127\.0\.0\.1 is ready"):
        asyncio.run(main())


def test_a_command_is_told_where_the_release_is():
    check = 'test "$MIZZEN_ADDRESS:$MIZZEN_PORT" = 127.0.0.1:77'
    assert attempt(Probe(ProbeKind.COMMAND, command=check), 77) == 1


def test_a_command_that_fails_is_told_by_its_last_words():
    with pytest.raises(Failure, match="the command failed: no database yet"):
        attempt(Probe(ProbeKind.COMMAND, command="echo no database yet >&2; false", attempts=1))


def test_a_command_that_hangs_is_ended_with_its_children():
    hangs = Probe(ProbeKind.COMMAND, command="sleep 1000 & wait", timeout=0.2, attempts=1)
    with pytest.raises(Failure, match="no answer within"):
        attempt(hangs)


def test_none_is_ready_at_once():
    assert attempt(Probe(ProbeKind.NONE)) == 1


def test_a_service_of_udp_alone_needs_another_probe():
    service = Service("dns", (ServicePort(53, 53, Transport.UDP),), Probe(ProbeKind.TCP))
    with pytest.raises(Failure, match="it has no TCP port to try"):
        probe.check(service)
    probe.check(Service("dns", service.ports, Probe(ProbeKind.NONE)))
