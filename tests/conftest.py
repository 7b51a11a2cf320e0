"""For every test: a folder for temporary files, and a look at the end for what was left behind."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

MARK = "MIZZEN_TEST_SESSION"
"""In the environment of this session, and so of every process that comes of it."""

PATIENCE = 20.0
"""Seconds that what is ending may take to end."""


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tmp_path_factory.getbasetemp()  # stays where pytest wants it
    temporary = Path(tempfile.mkdtemp(prefix="mz-", dir="/tmp"))  # short: sockets' paths are
    temporary.chmod(0o1777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, temporary.name)
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", str(temporary))
        before = remains(temporary)
        yield
        deadline = time.monotonic() + PATIENCE
        while (left := sorted(remains(temporary) - before)) and time.monotonic() < deadline:
            time.sleep(0.2)
    shutil.rmtree(temporary, ignore_errors=True)
    if left:
        pytest.fail("left behind by the tests:\n  " + "\n  ".join(left), pytrace=False)


def remains(temporary: Path) -> set[str]:
    """Tell everything that tests could leave on this host."""
    found = {f"process {told}" for told in processes(temporary.name)}
    found |= {f"network link {path.name}" for path in Path("/sys/class/net").iterdir()}
    found |= {f"file {path}" for path in Path("/dev/shm").glob("*mizzen*")}
    found |= {f"file {path}" for path in temporary.iterdir()}
    found |= {f"container {name}" for name in containers()}
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    places = ("mizzen", "containers/storage", "pytest-of", temporary.name)
    return found | {f"mount {path}" for path in mounts if any(place in path for place in places)}


def processes(mark: str) -> Iterator[str]:
    wanted = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # gone, or somebody else's
        if wanted in environment and path.name != str(os.getpid()):
            yield f"{path.name}: {command}"


def containers() -> list[str]:
    if shutil.which("buildah") is None:
        return []
    listed = subprocess.run(
        ["buildah", "containers", "--format", "{{.ContainerName}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return listed.stdout.split()
