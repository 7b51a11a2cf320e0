"""A session joins a container in the guest."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.machine

CONTAINER = """
mkdir -p /tmp/box/root/bin /tmp/box/root/proc && cd /tmp/box/root &&
cp /bin/busybox bin/ && ln -s busybox bin/sh && mount --bind . . &&
mount -t proc proc proc && hostname box && echo in the box >mark &&
exec chroot . /bin/busybox sleep 4567
"""


@pytest.fixture
def container(guest):
    """A process in namespaces and a root of its own: its number in the guest."""
    script = CONTAINER.strip().replace("\n", " ")
    # what is on its way there is called otherwise
    look = """ps -o pid,args | awk '$2 == "/bin/busybox" && $4 == "4567" { print $1 }'"""
    guest.console.run(
        f"(setsid unshare -m -p -f -n -u -i sh -c '{script}' </dev/null >/dev/null 2>&1 &);"
        f' until [ "$({look})" ]; do :; done'
    )
    yield guest.console.run(look)
    guest.console.run(f"kill -9 $({look}); rm -rf /tmp/box")


def test_the_session_is_in_the_container(guest, container):
    script = "hostname; ps | grep -c '[s]leep 4567'; ps | awk '$1 == 1'; cat /guest/mark; ip link"
    done = guest.attach("sh", "-c", script, options=("--guest-pid", container))
    assert done.returncode == 0, done.stderr
    name, count, first, mark, *links = done.stdout.decode().splitlines()
    assert (name, count, mark) == ("box", "1", "in the box")
    assert "sleep 4567" in first
    assert "lo" in links[0]
    assert guest.console.run("hostname") != "box"


def test_what_was_left_in_the_background_ends_there_too(guest, container):
    done = guest.attach(
        "sh", "-c", "(setsid sleep 5678 &); sleep 5678 & true", options=("--guest-pid", container)
    )
    assert done.returncode == 0
    assert guest.console.run("ps | grep -c -e '[s]leep 5678' -e '[m]izzen'") == "0"


def test_files_are_the_containers(guest, container, tmp_path):
    done = guest.attach(
        options=("--guest-pid", container, "--get", "/mark", str(tmp_path / "mark"))
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mark").read_text() == "in the box\n"


@pytest.mark.parametrize(
    ("number", "status", "words"), [("4000000", 1, "--guest-pid"), ("0", 2, "id")]
)
def test_a_process_that_is_not_there_is_refused(guest, number, status, words):
    done = guest.attach("true", options=("--guest-pid", number))
    assert done.returncode == status
    assert words.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1
