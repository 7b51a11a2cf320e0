"""What ``mizzen up --listen`` answers: metrics, views and webhooks, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from prometheus_client.parser import text_string_to_metric_families
from repositories import Repository, serving
from up_process import UpProcess

from mizzen.daemon.bounds import BODY_MAX
from mizzen.daemon.server import CONNECTIONS_MAX

SITE = """
@pipeline
def site():
    put("site", make("site"))

@pipeline
def other():
    step(Put, "wrong", name=3, what="")
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@pytest.fixture
def port(up: UpProcess) -> int:
    port = free_port()
    up.write(SITE, "site")
    up.start("--listen", f"127.0.0.1:{port}")
    return port


def ask(
    port: int, target: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, target, body, named)
        response = connection.getresponse()
        return response.status, response.read()


def metrics(port: int) -> dict[str, float]:
    """Return the samples that are no histogram's, by name and labels."""
    status, text = ask(port, "/metrics")
    assert status == 200
    return {
        " ".join(
            [sample.name, *(value for _, value in sorted(sample.labels.items()))]
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if family.type != "histogram" or sample.name.endswith("_count")
    }


def test_metrics_count_steps_jobs_pools_and_rollouts(up: UpProcess, port: int) -> None:
    up.until("make site", "running")
    assert metrics(port).items() >= {
        "mizzen_steps site running": 1,
        "mizzen_steps site blocked": 1,
        "mizzen_steps other failed": 1,
        "mizzen_steps other ok": 0,
        "mizzen_pool_running make": 1,
        "mizzen_pool_queue make": 0,
    }.items()  # fmt: skip
    up.say("site", "v1")
    up.until("put site", "ok")
    assert metrics(port).items() >= {
        "mizzen_steps site ok": 2,
        "mizzen_jobs_total make ok": 1,
        "mizzen_jobs_total put ok": 1,
        "mizzen_job_duration_seconds_count make ok": 1,
        "mizzen_rollouts_total site ok": 1,
        "mizzen_pool_running make": 0,
    }.items()  # fmt: skip
    assert "mizzen_cache_hits_total make" not in metrics(port)
    up.end()
    up.start("--listen", f"127.0.0.1:{port}")
    up.until("put site", "ok")
    assert metrics(port).items() >= {
        "mizzen_cache_hits_total make": 1, "mizzen_cache_hits_total put": 1,
    }.items()  # fmt: skip


def test_pipelines_are_shown_as_they_are(up: UpProcess, port: int) -> None:
    up.until("make site", "running")
    both = json.loads(ask(port, "/pipelines")[1])
    assert [one["name"] for one in both] == ["site", "other"]
    one = json.loads(ask(port, "/pipelines/site.json")[1])
    assert [(box["label"], box["state"]) for box in one["boxes"]] == [
        ("make site", "running"), ("put site", "blocked"),
    ]  # fmt: skip
    picture = ET.fromstring(ask(port, "/pipelines/site.svg")[1])
    assert picture.get("aria-label") == "site"
    assert ask(port, "/pipelines/site.dot")[1].startswith(b'digraph "site"')
    for absent in ("/pipelines/none.svg", "/pipelines/site.png", "/pipelines/site"):
        assert ask(port, absent)[0] == 404


def test_nothing_can_be_changed_and_no_job_is_shown(up: UpProcess, port: int) -> None:
    job = up.until("make site", "running")["job"]
    for method in ("GET", "POST"):
        for target in ("/jobs", f"/jobs/{job}", f"/jobs/{job}/log", f"/jobs/{job}/cancel"):
            assert ask(port, target, method)[0] == 404
    assert ask(port, "/metrics", "POST")[0] == 405


def test_a_request_that_is_too_large_is_refused(up: UpProcess, port: int) -> None:
    assert ask(port, "/webhooks/git", "POST", b"x" * (BODY_MAX + 1))[0] == 413
    with contextlib.suppress(OSError, http.client.HTTPException):  # it is hung up on
        assert ask(port, "/" + "x" * (1 << 20))[0] == 400
    assert ask(port, "/metrics")[0] == 200


def test_idle_connections_cost_the_engine_no_descriptors(up: UpProcess, port: int) -> None:
    up.until("make site", "running")
    with contextlib.ExitStack() as stack:
        for _ in range(3 * CONNECTIONS_MAX):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert up.told("jobs", "list")  # every connection was accepted before this one was asked
        assert len(list(Path(f"/proc/{up.pid}/fd").iterdir())) < CONNECTIONS_MAX + 100
    up.say("site", "v1")
    up.until("put site", "ok")


def test_a_webhook_is_taken_if_it_is_signed(up: UpProcess, port: int) -> None:
    body = json.dumps({"repository": {"clone_url": "https://forge.example/a/b.git"}}).encode()
    signature = "sha256=" + hmac.new(b"hush", body, hashlib.sha256).hexdigest()

    def push(signed: str, content: bytes = body) -> tuple[int, bytes]:
        return ask(
            port,
            "/webhooks/git",
            "POST",
            content,
            X_GitHub_Event="push",
            X_Hub_Signature_256=signed,
        )

    assert push(signature) == (200, b'{"followed_by":0}')
    assert push("sha256=0")[0] == 403
    assert push("")[0] == 403
    assert push(signature, body + b" ")[0] == 403
    broken = "sha256=" + hmac.new(b"hush", b"{", hashlib.sha256).hexdigest()
    assert push(broken, b"{")[0] == 409


def test_a_pushed_commit_is_seen_at_once(up: UpProcess, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "remote" / "site")
    first = repository.commit(a="1")
    with serving(tmp_path / "remote") as server:
        port = free_port()
        where = server.url("site/.git")
        up.write(
            "from mizzen.steps import git\n\n@pipeline\ndef site():\n"
            f'    git.head("{where}", every="1d").hash.map(str, "head")\n'
        )
        up.start("--listen", f"127.0.0.1:{port}")
        assert up.until("head", "ok")["detail"] == first
        second = repository.commit(a="2")
        body = json.dumps({"repository": {"clone_url": where}}).encode()
        signature = "sha256=" + hmac.new(b"hush", body, hashlib.sha256).hexdigest()
        headers = {"X_GitHub_Event": "push", "X_Hub_Signature_256": signature}
        answered = ask(port, "/webhooks/git", "POST", body, **headers)
        assert answered == (200, b'{"followed_by":1}')
        assert up.until("head", "ok")["detail"] == second
        up.end()


def test_a_port_that_is_taken_is_told(up: UpProcess) -> None:
    up.write(SITE, "site")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        line = up.refused("up", str(up.file), "--listen", place)
    assert "Address already in use; give --listen another" in line
