"""The pipelines of the examples, as users run them, in machines that boot."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from pipelines import HOST, PATIENCE, Client, Hosted, Log, Pushed, Site, example, page, site

from mizzen.host.paths import Folders

HEALTHY, SICK = (f'HTTPStatus.{status}, "text/plain", "ok' for status in ("OK", "GONE"))
"""How the website answers at /healthz, and how one that must not go live does."""

GATE = 9099
"""The port where a build of the tests asks whether it may go on."""

WAIT = f"""
RUN ["python3", "-c", \
"import socket; socket.create_connection(('{HOST}', {GATE})).recv(1) or exit(1)"]
"""

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="links need root"),
]


@pytest.fixture(scope="module")
def host(cache: Folders) -> Iterator[Site]:
    with site(cache) as made:
        yield made


def killed_while_building(up: Hosted, files: Pushed) -> str:
    """Push a commit, kill ``mizzen up`` while it is built, and let the next one build it."""
    with up.site.host.entered(), closing(socket.create_server((HOST, GATE))) as gate:
        gate.settimeout(PATIENCE)
        version = files.push(
            index__html="<p>This is version $VERSION, mended.</p>",
            website__py=files.read("website.py").replace(SICK, HEALTHY),
            Dockerfile=files.read("Dockerfile").replace("WORKDIR /srv", f"WORKDIR /srv\n{WAIT}"),
        )
        build, _ = gate.accept()
        up.end(signal.SIGKILL)
        with build:
            assert build.recv(1) == b"", "the build ends with it"
        up.start()
        build, _ = gate.accept()
        with build:
            build.sendall(b".")
            up.until("docker build", "ok")
    return version


def test_commits_go_live_under_load_and_nothing_that_fails_is_seen(host: Site) -> None:
    with example("website", host) as up:
        files = Pushed(up)
        first = files.version
        up.start()
        up.until("publish website", "ok")
        with Client(host, page) as load:
            load.until(first)
            second = files.push(index__html="<p>This is version $VERSION, anew.</p>")
            live = up.until("publish website", "ok")["detail"]
            load.until(second)
        assert load.lost == []
        up.until("publish collect", "ok")
        (serving,) = up.machines().items()
        assert serving[0] == live

        assert up.end() == 0
        text = up.file.read_text()
        up.file.write_text(text.replace('"/healthz"', '"/healthz", interval=0.5, attempts=24'))
        up.start()
        up.until("publish website", "ok")
        with Client(host, page) as load:
            files.push(website__py=files.read("website.py").replace(HEALTHY, SICK))
            failed = up.until("publish website", "failed")["detail"]
            assert "answered with 410, not 200; website-2 stays live" in failed
            found = re.search(r"mizzen incidents show (\d+)", failed)
            assert found
            incident = up.told("incidents", "show", found[1])
            console, *_, last = incident["lines"][1:]
            assert console.startswith("[ "), "what the kernel said is the console"
            assert '"GET /healthz HTTP/1.1" 410' in last
            assert serving in up.machines().items()

            third = killed_while_building(up, files)
            for step in ("machines deploy website", "publish website"):
                up.until(step, "running")
                up.end(signal.SIGKILL)
                assert serving in up.machines().items()
                load.until(second)
                up.start()
            up.until("publish website", "ok")
            load.until(third)
            up.until("publish collect", "ok")
            assert serving not in up.machines().items()
        assert load.lost == []
        taken_down(up, "website", 8080)


def taken_down(up: Hosted, name: str, port: int) -> None:
    """End it, take its pipeline down, and check that nothing is left, nor answers."""
    refused = up.refused("down", name)
    assert f"cannot take down {name}: mizzen up runs it, pid {up.pid}; stop that" in refused
    assert up.end() == 0
    expected = up.told("down", name, "--dry-run")
    assert up.machines(), "a dry run frees nothing"
    assert up.told("down", name) == expected
    listed = [up.told(*words, "list") for words in (("machines",), ("ip",), ("publish",))]
    assert [*listed, up.told("net", "edges")] == [[], [], [], []]
    with up.site.outside.entered(), pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, port), timeout=5)
    assert "it has made nothing here" in up.refused("down", name)


def send(client: smtplib.SMTP, subject: str) -> None:
    text = f"From: a@test\r\nTo: b@test\r\nSubject: {subject}\r\n\r\nHello.\r\n"
    client.sendmail("a@test", ["b@test"], text)


def mail(number: int) -> str:
    """Send a mail by a connection of its own; return the entry's greeting."""
    with smtplib.SMTP(HOST, 2525, timeout=30) as client:
        send(client, f"number {number}.")
        return client.ehlo_resp.decode()


def forwarder(up: Hosted) -> Log:
    """Return the log of the end of the chain, once it is deployed."""
    return Log(up, up.until("machines deploy mail-forwarder", "ok")["detail"])


def test_a_mail_chain_goes_live_as_one_and_no_mail_is_lost(host: Site) -> None:
    with example("mail", host) as up, ExitStack() as stack:
        up.start()
        before = stack.enter_context(forwarder(up))
        up.until("publish mail", "ok")
        with host.outside.entered():
            kept = stack.enter_context(smtplib.SMTP(HOST, 2525, timeout=30))
            send(kept, "the first")
        for header in ("X-Received: yes", "X-Signed: yes", "X-Signature: ", "X-Forwarded: yes"):
            before.until(f"mail for b@test: {header}")
        old = up.machines()

        relay = up.file.parent / "relay/relay.py"
        relay.write_text(relay.read_text().replace('"250 relay"', '"250 relay, anew"'))
        up.until("docker build", "ok")
        with Client(host, mail) as load:
            load.until("relay")
            after = stack.enter_context(forwarder(up))
            load.until("anew")
            with host.outside.entered():
                send(kept, "the last of before")
                kept.quit()
            live = up.until("publish mail", "ok")["detail"].split()
        up.until("publish collect", "ok")
        assert load.lost == []
        now = up.machines()
        assert sorted(now) == sorted(live)
        assert not now.keys() & old.keys()
        before.ended()
        before.until("Subject: the last of before")
        after.until(f"Subject: number {len(load.came)}.")
        came = "".join(before.lines + after.lines)
        sent = [f"Subject: number {number}.\n" for number in range(1, len(load.came) + 1)]
        assert [one for one in sent if one not in came] == []
        taken_down(up, "mail", 2525)
