from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from mizzen.host import cpio
from mizzen.model.log import Stream
from mizzen.model.machine import MachineState

pytestmark = pytest.mark.machine

EVERYTHING = r"""
echo to stdout
echo to stderr >&2
echo id=$(id -u):$(id -g) cwd=$(pwd) var="$VAR" path=$PATH home=$HOME host=$HOSTNAME
echo address=$(ip -4 -o addr show eth0 | tr -s ' ')
echo route=$(ip route)
head -c 20000 /dev/zero | tr '\0' x
echo
kill -9 1
kill -TERM 1
(sleep 0.1 & exec sh -c 'exit 0') &
sleep 0.5
echo zombies=$(ps -o stat | tr -d '\n' | tr -cd Z)
echo pipe >/dev/stdout
sleep 1000 &
exit 7
"""


def test_function_runs_as_its_image_says_and_its_end_is_known(guests, kernel):
    folder = cpio.Entry("work", 0o040755, uid=1000, gid=1000)
    name = guests.start(
        kernel,
        EVERYTHING,
        extra=(folder,),
        user="1000:1000",
        directory="/work",
        environment=("VAR=a b=c", "PATH=/bin"),
    ).spec.name
    machine = guests.ended(name)
    assert (machine.state, machine.status) == (MachineState.FAILED, 7)
    assert machine.reason == "exited with status 7"
    out = guests.lines(name, Stream.STDOUT)
    assert out[0] == "to stdout"
    assert out[1] == f"id=1000:1000 cwd=/work var=a b=c path=/bin home=/ host={name}"
    assert "10.0.2.15/24" in out[2]
    assert "default via 10.0.2.2" in out[3]
    assert out[4] == "x" * 20000
    assert out[5:] == ["zombies=", "pipe"]
    errors = guests.lines(name, Stream.STDERR)
    assert errors[0] == "to stderr"
    assert "Kernel panic" not in guests.console(name)
    raw = guests.registry.files(name).log.read_text()
    assert " stdout P " in raw, "long lines come in parts"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A root file system with accounts."""
    place = tmp_path_factory.mktemp("root")
    tree = place / "tree"
    for folder in ("bin", "etc", "home/ada"):
        (tree / folder).mkdir(parents=True)
    (tree / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    (tree / "bin/sh").symlink_to("busybox")
    (tree / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nada:x:1815:1852::/home/ada:/bin/sh\n"
    )
    (tree / "etc/group").write_text("root:x:0:\nada:x:1852:\nengine:x:77:babbage,ada\n")
    image = place / "root.erofs"
    subprocess.run(
        ["mkfs.erofs", "--quiet", str(image), str(tree)], check=True, capture_output=True
    )
    return image


def test_root_is_read_only_below_a_writable_layer(guests, kernel, root):
    script = (
        "busybox id; echo $HOME; echo new >/etc/new && busybox cat /etc/new /etc/hosts;"
        " busybox mount; busybox ls /proc/2/root/home; busybox stat -c %a /tmp; echo $PPID"
    )
    name = guests.start(
        kernel,
        "",
        root=root,
        arguments=("busybox", "sh", "-c", script),
        user="root",
    ).spec.name
    machine = guests.ended(name)
    out = guests.lines(name, Stream.STDOUT)
    assert machine.state is MachineState.STOPPED, (out, guests.lines(name), guests.console(name))
    assert out[:2] == ["uid=0(root) gid=0(root)", "/root"]
    assert out[2] == "new"
    assert "127.0.0.1 localhost" in out
    assert f"10.0.2.15 {name}" in out
    assert any(line.startswith("overlay on / type overlay (rw") for line in out)
    assert out[-3] == "ada", "kernel threads share the root, as attach needs"
    assert out[-2:] == ["1777", "1"]


def test_users_and_groups_are_named_by_the_root(guests, bookworm, root):
    name = guests.start(
        bookworm, "", root=root, arguments=("/bin/busybox", "id"), user="ada"
    ).spec.name
    guests.ended(name)
    assert guests.lines(name, Stream.STDOUT) == ["uid=1815(ada) gid=1852(ada) groups=77(engine)"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"user": "nobody"}, "cannot run as user nobody: /etc/passwd does not name it"),
        ({"arguments": ("nowhere",)}, "cannot start nowhere: no such program in PATH"),
        (
            {"directory": "/missing"},
            "cannot start /bin/sh: directory /missing: No such file or directory",
        ),
    ],
)
def test_function_that_cannot_start_says_why_in_one_line(guests, bookworm, config, reason):
    name = guests.start(bookworm, "", **config).spec.name
    machine = guests.ended(name)
    assert (machine.state, machine.reason) == (MachineState.FAILED, reason)
    assert f"fatal: {reason}" in guests.console(name)


def test_root_that_cannot_be_mounted_says_why(guests, bookworm, tmp_path):
    junk = tmp_path / "junk"
    junk.write_bytes(bytes(1 << 20))
    name = guests.start(bookworm, "", root=junk).spec.name
    reason = guests.ended(name).reason
    assert reason == "cannot mount the root: /dev/vda holds no erofs that this kernel can read"


def test_module_that_is_missing_or_broken_is_named_and_its_device_missed(guests, bookworm, root):
    modules = b"module=/modules/broken.ko\0module=/modules/missing.ko\0"
    extra = (cpio.file("modules/broken.ko", b"none"), cpio.file("mizzen/modules", modules))
    name = guests.start(bookworm, "", extra=extra, root=root).spec.name
    reason = guests.ended(name).reason
    assert reason.startswith("cannot mount the root: /dev/vda: no such device came up")
    console = guests.console(name)
    assert "cannot load module /modules/broken.ko: Exec format error" in console
    assert "cannot load module /modules/missing.ko: No such file or directory" in console


def test_function_killed_by_a_signal_is_told_apart(guests, bookworm):
    name = guests.start(bookworm, "kill -SEGV $$").spec.name
    machine = guests.ended(name)
    assert (machine.state, machine.status) == (MachineState.FAILED, 139)
    assert machine.reason == "killed by SIGSEGV"


def test_stop_lets_the_function_end_by_itself(guests, bookworm):
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    name = guests.start(bookworm, script).spec.name
    guests.wait_line(name, "ready")
    machine = asyncio.run(guests.registry.stop(name, 30))
    assert (machine.state, machine.status) == (MachineState.STOPPED, 3)
    assert guests.lines(name, Stream.STDOUT) == ["ready", "bye"]


def test_stop_ends_a_function_that_ignores_it_even_before_it_has_booted(guests, bookworm):
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    name = guests.start(bookworm, script).spec.name
    machine = asyncio.run(guests.registry.stop(name, 30))
    assert machine.state is MachineState.STOPPED
    assert machine.reason in {"killed by SIGKILL", "killed by SIGTERM"}
