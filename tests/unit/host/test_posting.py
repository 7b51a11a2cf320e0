import asyncio
import ssl
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web import receiving

from mizzen.host.posting import parsed, post


def test_a_body_arrives_with_its_kind_and_the_status_comes_back():
    with receiving() as server:
        server.statuses = [201, 302, 404]
        url = server.url("/hook?x=%20y")
        for status in (201, 302, 404, 204):
            assert asyncio.run(post(url, b"hello", "text/plain")) == status
        path, headers, body = server.received[0]
        assert (path, headers["Content-Type"], body) == ("/hook?x=%20y", "text/plain", b"hello")
        assert headers["Host"] == f"127.0.0.1:{server.server_port}"


def answered(answer):
    """Post to a server that answers with these bytes and hangs up."""

    async def scenario():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await post(f"http://127.0.0.1:{port}", b"", "text/plain")

    return asyncio.run(scenario())


def test_answers_on_the_way_are_passed_over():
    assert answered(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n") == 204


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"x\r\n\r\n", b"x" * 100_000])
def test_answers_that_are_none_are_errors(answer):
    with pytest.raises((OSError, ValueError)):
        answered(answer)


@given(st.text(), st.sampled_from(["", "http://", "https://h", "http://h:1/"]))
def test_no_url_brings_a_line_of_its_own_into_the_request(rest, start):
    try:
        parts = parsed(start + rest)
    except ValueError:
        return
    assert not set("\r\n ") & set(parts.netloc + parts.path + parts.query)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def scenario():
        async def serve(reader, writer):
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ssl.SSLCertVerificationError):
                await post(f"https://localhost:{port}", b"", "text/plain")

    asyncio.run(scenario())
