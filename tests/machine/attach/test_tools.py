"""Tools that are too large for the guest's memory are served from the host as they are used."""

from __future__ import annotations

import hashlib
import shutil

import pytest

pytestmark = pytest.mark.machine


@pytest.fixture
def tools(guest, tmp_path):
    """A root file system that is larger than half of the guest's memory."""
    if "fuse" not in guest.console.run("cat /proc/filesystems"):
        pytest.skip("the guest has no FUSE")
    root = tmp_path / "tools"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "sha256sum", "ps", "ls", "cat", "grep", "touch"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "data").write_bytes(bytes(range(256)) * 4096 * 8)
    with (root / "large").open("wb") as file:
        file.truncate(1 << 30)
    return root


def test_they_run_and_are_read_whole(guest, tools):
    script = "sha256sum </data; ls /guest/init; touch /tmp/x /root/x; touch /x || echo read-only"
    done = guest.attach("sh", "-c", script, options=("--tools", str(tools)))
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256((tools / "data").read_bytes()).hexdigest()
    assert done.stdout.decode().splitlines() == [f"{digest}  -", "/guest/init", "read-only"]


def test_nothing_of_them_stays(guest, tools):
    before = guest.console.run("cat /proc/mounts")
    done = guest.attach("sh", "-c", "cat /large >/dev/null & true", options=("--tools", str(tools)))
    assert done.returncode == 0, done.stderr
    while guest.console.run("ps | grep -c '[m]izzen'") != "0":
        pass
    assert guest.console.run("cat /proc/mounts") == before
    assert guest.console.run("grep -c . /proc/self/mountinfo")
