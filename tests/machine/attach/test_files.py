"""Files go in and out by the guest's own paths, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess

import pytest

pytestmark = pytest.mark.machine


@pytest.fixture
def folder(guest):
    """A folder in the guest."""
    guest.console.run("mkdir -p /files")
    yield "/files"
    guest.console.run("rm -rf /files")


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    (root / "d").mkdir(parents=True)
    (root / "d/data").write_bytes(os.urandom(1_500_000))
    (root / "d/data").chmod(0o640)
    (root / "l").symlink_to("d/data")
    os.utime(root / "d/data", (1_600_000_000, 1_600_000_000))
    with (root / "sparse").open("wb") as file:
        file.truncate(5 << 30)
    return root


def test_a_tree_goes_in_and_comes_out_as_it_was(guest, folder, source, tmp_path):
    done = guest.attach(options=("--put", str(source), folder))
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256((source / "d/data").read_bytes()).hexdigest()
    seen = guest.console.run(f"cd {folder}/source && sha256sum <d/data; stat -c '%a %Y %s' d/data")
    assert seen.split() == [digest, "-", "640", "1600000000", "1500000"]
    assert guest.console.run(f"readlink {folder}/source/l") == "d/data"
    assert int(guest.console.run(f"du -k {folder}/source/sparse").split()[0]) < 100
    back = tmp_path / "back"
    done = guest.attach(options=("--get", f"{folder}/source", str(back)))
    assert done.returncode == 0, done.stderr
    assert (back / "d/data").read_bytes() == (source / "d/data").read_bytes()
    assert (back / "d/data").stat().st_mtime == 1_600_000_000
    assert (back / "d/data").stat().st_mode & 0o7777 == 0o640
    assert (back / "l").readlink() == (source / "l").readlink()
    assert (back / "sparse").stat().st_size == 5 << 30
    assert (back / "sparse").stat().st_blocks < 100


def test_what_goes_in_before_a_command_is_there_and_what_it_made_comes_out(guest, folder, tmp_path):
    (tmp_path / "question").write_text("what\n")
    done = guest.attach(
        *("sh", "-c", "sed s/what/that/ question >answer; exit 3"),
        options=(
            *("--put", str(tmp_path / "question"), "/question"),
            *("--get", "/answer", str(tmp_path)),
        ),
    )
    guest.console.run("rm -f /question /answer")
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "answer").read_text() == "that\n"


def test_files_that_do_not_tell_their_size_come_out(guest, tmp_path):
    done = guest.attach(options=("--get", "/proc/version", str(tmp_path / "version")))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "version").read_text().startswith("Linux version")


def test_what_is_no_file_is_left_out_and_told(guest, folder, tmp_path):
    guest.console.run(f"mknod {folder}/null c 1 3; echo kept >{folder}/file")
    done = guest.attach(options=("--get", folder, str(tmp_path / "copy")))
    assert done.returncode == 1
    assert b"left out: null: neither file" in done.stderr
    assert (tmp_path / "copy/file").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("option", "first", "second", "words"),
    [
        ("--get", "/nowhere", "HERE/x", "No such file"),
        ("--get", "/init", "HERE/nowhere/x", "No such file"),
        ("--put", "HERE/nowhere", "/x", "No such file"),
        ("--put", "/etc/hostname", "/nowhere/x", "No such file"),
        ("--put", "/etc/hostname", "/dev/null/x", "Not a directory"),
    ],
)
def test_what_cannot_be_copied_is_told_in_one_line(guest, tmp_path, option, first, second, words):
    here = str(tmp_path)
    done = guest.attach(options=(option, first.replace("HERE", here), second.replace("HERE", here)))
    assert done.returncode == 1
    assert words.encode() in done.stderr
    assert done.stderr.splitlines()[-1].startswith(b"error: cannot copy")
    assert list(tmp_path.iterdir()) == []


def test_a_full_guest_keeps_no_half_file(guest, folder, tmp_path):
    guest.console.run(f"mount -t tmpfs -o size=1m none {folder}")
    (tmp_path / "large").write_bytes(bytes(range(256)) * 16384)
    done = guest.attach(options=("--put", str(tmp_path / "large"), folder))
    left = guest.console.run(f"ls -A {folder}")
    guest.console.run(f"umount {folder}")
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert left == ""


def test_an_interrupted_copy_leaves_nothing_behind(guest, folder, tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(80 << 20))
    running = subprocess.Popen(
        guest.arguments(options=("--put", str(tmp_path / "large"), folder)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=guest.environment,
    )
    with running:
        assert running.stderr.readline()
        # It copies now. Stopped, it cannot be done before we have looked.
        running.send_signal(signal.SIGSTOP)
        while not guest.console.run(f"ls -A {folder}"):
            running.send_signal(signal.SIGCONT)
            guest.console.run("true")
            assert running.poll() is None
            running.send_signal(signal.SIGSTOP)
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGCONT)
        assert running.wait(60) == 130
    assert guest.console.run(f"ls -A {folder}") == ""


def test_no_link_below_the_place_is_followed(guest, folder, source):
    guest.console.run(f"mkdir {folder}/source; ln -s /tmp {folder}/source/d")
    done = guest.attach(options=("--put", str(source), folder))
    assert done.returncode == 1
    assert b"d: File exists" in done.stderr
    assert guest.console.run("ls /tmp/data 2>&1").endswith("No such file or directory")
