"""A pipeline of mistakes: each is shown at its step with file and line, and the rest goes on."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import hello
import pytest
from pipelines import HOST, Hosted, hosted, site

from mizzen.host.paths import Folders

SITE = """
from pathlib import Path

from mizzen import pipeline
from mizzen.steps import docker, git, http, machines, network, publish, unikernel

HERE = Path(__file__).parent
PREFIX = "10.70.0.0/24"


@pipeline
def site():
    git.head(HERE / "gone.git")  # gone
    docker.build(HERE / "broken")  # broken
    kernel = unikernel.file(HERE / "hello/hello.elf")
    machines.spec("typed", kernel, memory=[16])  # typed
    spec = machines.spec("web", kernel, memory="16M", args=lambda ip: [f"--listen={ip}:80"])
    network.address(spec, prefix="10.9.0.0/30", exclude=["10.9.0.2"])  # full
    vm = machines.deploy(spec, network.address(spec, prefix=PREFIX))
    live = publish.port("web", vm, {8080: 80}, ready=http("/healthz"))
    again = vm.gate(live)
    publish.stage("all", [publish.service("web", again, {8081: 80})])  # twice
    publish.port("other", again, {8080: 80})  # taken
"""

MISTAKES = {
    "gone": ("git head {folder}/gone.git main", "there is no repository"),
    "broken": ("docker build {folder}/broken", "Dockerfile:2: COPY nothing /nothing failed"),
    "typed": ("machines spec typed", "[16] is no size such as 256M"),
    "full": ("network address web 10.9.0.0/30", "it is full"),
    "twice": ("publish all", "web is published as a part of web"),
    "taken": ("publish other", "port 8080/tcp is published by web"),
}
"""By the comment at their line: the step that fails, and a part of why."""

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="links need root"),
]


@pytest.fixture
def up(cache: Folders) -> Iterator[Hosted]:
    with site(cache) as place, hosted(place) as made:
        hello.build(made.folder / "hello")
        (made.folder / "broken").mkdir()
        (made.folder / "broken/Dockerfile").write_text("FROM scratch\nCOPY nothing /nothing\n")
        made.file.write_text(SITE)
        yield made


def failures(up: Hosted, count: int) -> dict[str, dict[str, Any]]:
    """Return the steps that have failed by themselves, by label, once they are as many."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < count:
        change = json.loads(up.line())
        if change["state"] == "failed":
            found[change["label"]] = change
    return found


def test_each_mistake_is_shown_at_its_step_and_the_rest_goes_on(up: Hosted) -> None:
    up.start()
    failed = failures(up, len(MISTAKES))
    lines = SITE.splitlines()
    for mark, (label, why) in MISTAKES.items():
        change = failed[label.format(folder=up.folder)]
        (line,) = (number for number, text in enumerate(lines, 1) if text.endswith(f"# {mark}"))
        assert change["where"] == f"{up.file}:{line}"
        assert why in change["detail"], change
    with (
        up.site.outside.entered(),
        closing(http.client.HTTPConnection(HOST, 8080, timeout=30)) as client,
    ):
        client.request("GET", "/")
        assert client.getresponse().status == 200
    assert up.end() == 0
