"""A program enters a guest and does several things there at a time."""

from __future__ import annotations

import asyncio
import re
import signal
import textwrap
import urllib.request
from pathlib import Path

import pytest

import mizzen
from mizzen.model.errors import Failure

pytestmark = pytest.mark.machine

DOCS = Path(__file__).parents[3] / "docs/python.md"


@pytest.fixture(autouse=True)
def settings(guest, monkeypatch):
    for name in ("MIZZEN_STATE", "MIZZEN_RUNTIME"):
        monkeypatch.setenv(name, guest.environment[name])


@pytest.fixture
def web(guest):
    """A web server in the guest."""
    guest.console.run("ip link set lo up; mkdir /www; echo hello >/www/index.html")
    guest.console.run("httpd -p 127.0.0.1:80 -h /www")
    yield
    guest.console.run("killall httpd; rm -rf /www; ip link set lo down")


def inside(guest, test):
    async def run() -> None:
        async with mizzen.attach(guest.target) as entered:
            await test(entered)

    asyncio.run(run())


def test_the_example_of_the_docs_does_what_it_says(guest, web, tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    guest.console.run("mkdir -p /var/log; echo started >/var/log/service.log")
    exec(compile(textwrap.dedent(code).replace("web-1", guest.target), str(DOCS), "exec"), {})
    assert (tmp_path / "service.log").read_text() == "started\n"
    shown = capsys.readouterr().out
    assert "Linux 6." in shown
    assert "'mizzen'" in shown
    assert "200" in shown


def test_many_commands_run_at_the_same_time(guest):
    async def test(entered):
        script = "read line; echo $line; exit $line"
        runs = [entered.run("sh", "-c", script, input=b"%d\n" % i) for i in range(50)]
        for number, done in enumerate(await asyncio.gather(*runs)):
            assert (done.status, done.stdout) == (number, b"%d\n" % number)

    inside(guest, test)


def test_more_than_fits_is_refused_by_name_and_the_rest_goes_on(guest):
    async def test(entered):
        runs = [entered.run("cat") for _ in range(63)]
        sleeping = [asyncio.create_task(entered.run("sleep", "1000")) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(Failure, match="64"):
            await entered.run("true")
        for task in sleeping:
            task.cancel()
        await asyncio.gather(*sleeping, return_exceptions=True)
        assert all(done.status == 0 for done in await asyncio.gather(*runs))

    inside(guest, test)


def test_a_stream_that_stalls_holds_up_no_other(guest):
    async def test(entered):
        stalled = await entered._session.start(["cat", "/dev/zero"])
        unread = asyncio.create_task(entered.run("sleep", "1000", input=bytes(4 << 20)))
        data = bytes(range(256)) * 8192
        assert (await entered.run("cat", input=data)).stdout == data
        assert not unread.done()
        stalled.cancel()
        unread.cancel()

    inside(guest, test)


def test_a_command_that_is_cancelled_ends_in_the_guest(guest):
    async def test(entered):
        task = asyncio.create_task(entered.run("sh", "-c", "sleep 3456 & sleep 3456"))
        while b"sleep 3456" not in (await entered.run("ps")).stdout:
            pass
        task.cancel()
        while b"sleep 3456" in (await entered.run("ps")).stdout:
            pass

    inside(guest, test)


def test_a_port_without_a_listener_is_refused_by_name(guest, web):
    async def test(entered):
        with pytest.raises(Failure, match="port 81: Connection refused"):
            await forwarded(entered, 81)

    inside(guest, test)


def test_a_network_without_lo_is_refused_by_name(guest):
    async def test(entered):
        with pytest.raises(Failure, match="its lo is down"):
            await forwarded(entered, 80)

    guest.console.run("ip link set lo down")
    inside(guest, test)


async def forwarded(entered, port: int) -> None:
    """Connect to a port that is forwarded, and raise why it could not be reached."""
    reasons = asyncio.Queue()
    async with entered.forward(port, refused=reasons.put_nowait) as (host, here):
        _, writer = await asyncio.open_connection(host, here)
        reason = await reasons.get()
        writer.close()
        raise reason


def test_a_port_is_reached_without_the_guests_network(guest, web):
    async def test(entered):
        async with entered.forward(80) as (host, port):

            async def page() -> bytes:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return answer

            for answer in await asyncio.gather(*(page() for _ in range(10))):
                assert answer.endswith(b"hello\n")

    inside(guest, test)


def test_the_command_forwards_ports_until_it_is_interrupted(guest, web):
    with guest.session(options=("--forward", "0:80")) as session:
        place, _, rest = session.stderr.readline().decode().partition(" ")
        assert rest == f"leads to port 80 of {guest.target.replace(':', ' ')}\n"
        with urllib.request.urlopen(f"http://{place}/") as page:
            assert page.read() == b"hello\n"
        session.send_signal(signal.SIGINT)
        assert session.wait(60) == 130


def test_an_interrupted_program_leaves_the_guest_as_it_was(guest):
    async def run() -> None:
        async with mizzen.attach(guest.target) as entered:
            await entered.run("sleep", "3457")

    async def interrupt() -> None:
        task = asyncio.create_task(run())
        while "sleep 3457" not in await asyncio.to_thread(guest.console.run, "ps"):
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupt())
    while guest.console.run("ps | grep -c -e '[s]leep 3457' -e '[m]izzen'") != "0":
        pass
