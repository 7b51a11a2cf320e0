"""The FUSE server against a real kernel: this host's, in a mount namespace of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
TREE = "find . -mindepth 1 -printf '%y %m %U %G %s %T@ %l %p\\n' | sort"
SUMS = "find . -type f -print0 | sort -z | xargs -0 sha256sum"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="only root may mount, and only a kernel with FUSE does",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small root file system: a program, many files, what is unusual."""
    path = tmp_path_factory.mktemp("tools")
    for name in ("bin", "etc", "lib", "deep/" + "d/" * 100, "many"):
        (path / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    (path / "bin/sh").symlink_to("busybox")
    (path / "loop").symlink_to("loop")
    (path / "absolute").symlink_to("/bin/sh")
    (path / ("n" * 255)).write_text("a long name")
    (path / os.fsdecode(b"not \xff utf-8")).write_text("x")
    (path / "hole").touch()
    os.truncate(path / "hole", 1 << 33)
    with (path / "large").open("wb") as file:
        file.writelines(os.urandom(1 << 20) for _ in range(8))
    for number in range(2000):
        (path / f"many/{number}").write_text(f"{number}")
    (path / "etc/shadow").write_text("closed")
    (path / "etc/shadow").chmod(0o600)
    os.chown(path / "etc/shadow", 7, 8)
    os.utime(path / "etc/shadow", ns=(0, -1_500_000_000))
    return path


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def inside(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a function that runs a shell command in the mounted tree."""
    place = tmp_path_factory.mktemp("place")
    with subprocess.Popen(
        [sys.executable, SUPPORT / "mounted.py", folder, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"

        def run(command: str) -> subprocess.CompletedProcess[str]:
            of = f"/proc/{server.pid}"
            enter = [
                "nsenter",
                f"--mount={of}/ns/mnt",
                f"--root={of}/root",
                f"--wd={folder.parent}",
            ]
            return subprocess.run(
                [*enter, "sh", "-c", f"cd {place} && {command}"],
                capture_output=True, text=True, errors="surrogateescape", check=False, timeout=120,
            )  # fmt: skip

        yield run


def outside(folder: Path, command: str) -> str:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder, capture_output=True, text=True, errors="surrogateescape", check=True,
    ).stdout  # fmt: skip


def test_the_tree_is_as_the_folder(folder: Path, inside: Run) -> None:
    laid_over = " ! -path ./log ! -path ./guest ! -path ./etc/passwd -printf"
    seen = inside(TREE.replace(" -printf", laid_over))
    assert seen.stderr == ""
    assert seen.stdout.splitlines() == outside(folder, TREE).splitlines()
    assert inside(TREE.replace(" -printf", laid_over)).stdout == seen.stdout


def test_contents_are_as_in_the_folder(folder: Path, inside: Run) -> None:
    sums = SUMS.replace("-type f", "-type f ! -path ./hole ! -path ./log")
    assert inside(sums).stdout == outside(folder, sums)
    assert inside("tail -c 5 hole | od -An -tx1").stdout.split() == ["00"] * 5


def test_a_program_runs_from_it(inside: Run) -> None:
    assert inside("./bin/sh -c 'echo run by $0'").stdout == "run by ./bin/sh\n"


def test_entries_lie_over_it(inside: Run) -> None:
    assert inside("cat log && readlink etc/passwd && ls -A guest").stdout == (
        "what it wrote last\n/guest/etc/passwd\n"
    )
    assert sorted(inside("ls -A etc").stdout.split()) == ["passwd", "shadow"]


def test_many_read_at_once(folder: Path, inside: Run) -> None:
    expected = outside(folder, "sha256sum < large")
    readers = "for i in 1 2 3 4; do sha256sum < large & find many | wc -l & done; wait"
    lines = inside(readers).stdout.splitlines()
    assert lines.count(expected.strip()) == 4
    assert lines.count("2001") == 4


def test_it_cannot_be_written(inside: Run) -> None:
    for command in ("touch new", "echo > large", "rm -f large", "mkdir etc/new"):
        assert "Read-only file system" in inside(command).stderr


def test_an_interrupted_reader_leaves_the_others_alone(inside: Run) -> None:
    assert inside("timeout -s KILL 0.2 cat hole >/dev/null; cat many/7").stdout == "7"
