"""What mypy knows of a pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

PIPELINE = """
from typing import assert_type

from mizzen import Term, gather, pipeline
from mizzen.model.deployment import Address, Live, Vm
from mizzen.model.image import Image
from mizzen.steps import docker, git, http, machines, network, publish


@pipeline
def website() -> None:
    source = git.head("/srv/git/website.git")
    assert_type(source.short, Term[str])
    image = docker.build(source, build_args={"VERSION": source.short})
    assert_type(image, Term[Image])
    spec = machines.spec("website", image, args=lambda ip: [f"--listen={ip}:80"])
    ip = network.address(spec, prefix="10.70.0.0/24")
    assert_type(ip, Term[Address])
    vm = machines.deploy(spec, ip)
    assert_type(vm, Term[Vm])
    live = publish.port("website", vm, {8080: 80}, ready=http("/healthz"))
    assert_type(live, Term[Live])
    assert_type(image.map(lambda one: one.digest), Term[str])
    assert_type(image.pair(ip), Term[tuple[Image, Address]])
    assert_type(image.catch(), Term[Image | Exception])
    assert_type(gather([vm]), Term[tuple[Vm, ...]])
    machines.deploy(image, ip)  # wrong: an image is no spec
"""


def test_mypy_knows_what_each_step_returns_and_takes(tmp_path: Path) -> None:
    file = tmp_path / "website.py"
    file.write_text(PIPELINE)
    cache = ("--cache-dir", str(ROOT / ".mypy_cache"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *cache, str(file)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (told,) = done.stdout.splitlines()
    assert ":27: error: Argument 1" in told
    assert 'has incompatible type "Term[Image]"; expected "Term[Spec]"' in told
