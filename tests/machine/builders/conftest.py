"""Real builds.

What they make is shared by the session, or by several where MIZZEN_TEST_CACHE names a folder.
"""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from mizzen.builders import image
from mizzen.builders.kernel import debian_kernel
from mizzen.host.paths import Folders
from mizzen.model.image import Kernel
from mizzen.model.progress import silent


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    named = os.environ.get("MIZZEN_TEST_CACHE")
    state = Path(named) if named else tmp_path_factory.mktemp("state")
    return Folders(state, tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="session")
def kernel(folders):
    """Debian's own kernel: its download is tested by the way."""
    return asyncio.run(debian_kernel(folders, silent))


@pytest.fixture(scope="session")
def bare_kernel(tmp_path_factory):
    """A kernel's place holder, where nothing boots."""
    return Kernel(tmp_path_factory.mktemp("kernel") / "vmlinuz", "6.1", None, "00")


@pytest.fixture(scope="session")
def init(tmp_path_factory):
    program = tmp_path_factory.mktemp("init") / "init"
    program.write_bytes(b"an init's place holder")
    return program


@pytest.fixture
def build(folders, bare_kernel, init, monkeypatch):
    """Return a function that builds a source and collects what is reported."""
    monkeypatch.setattr("mizzen.builders.initramfs.guest_binary", lambda _: init)

    def run(source, reports=None):
        report = silent if reports is None else lambda progress: reports.append(progress.task)
        return asyncio.run(image.build(source, kernel=bare_kernel, folders=folders, report=report))

    return run


@pytest.fixture
def containers():
    """Return a function that lists buildah's working containers."""

    def run():
        listed = subprocess.run(
            ["buildah", "containers", "--json"], capture_output=True, text=True, check=True
        )
        return {entry["id"] for entry in json.loads(listed.stdout or "null") or []}

    return run


@pytest.fixture
def function(tmp_path):
    """Return a function that writes a Dockerfile into a folder; its image is removed afterwards."""
    folder = tmp_path / "mizzen-test-function"
    folder.mkdir()

    def write(text):
        (folder / "Dockerfile").write_text(text)
        return folder

    yield write
    name = f"localhost/mizzen/functions/{folder.name}"
    subprocess.run(["buildah", "rmi", "--force", name], capture_output=True, check=False)
