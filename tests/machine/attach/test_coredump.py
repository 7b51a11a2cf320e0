"""A core of a guest is opened by drgn, crash and mizzen inspect, and tells what the guest does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess

import drgn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mizzen
from mizzen.control.inspect import SECTIONS
from mizzen.introspection.inspection import Inspection
from mizzen.introspection.kernel import vmcoreinfo
from mizzen.introspection.kernel.btf import MAGIC, Btf, Unknown
from mizzen.introspection.kernel.kallsyms import Symbols
from mizzen.introspection.kernel.objects import Objects
from mizzen.model.errors import Failure

pytestmark = pytest.mark.machine

STACK_END = 0x57AC6E9D
"""STACK_END_MAGIC, include/uapi/linux/magic.h."""
STRUCTURES = (
    *("task_struct", "mm_struct", "signal_struct", "cred", "file", "fdtable", "sock"),
    *("sock_common", "unix_sock", "mount", "dentry", "super_block", "printk_info", "prb_desc"),
    *("zone", "pglist_data", "timekeeper", "new_utsname", "list_head"),
)
FUNCTIONS = ("_text", "_stext", "startup_64", "_etext", "schedule", "start_kernel")


@pytest.fixture(scope="module")
def core(guest, tmp_path_factory):
    """A core of a guest that was stopped meanwhile, and what was told of it by looking."""
    path = tmp_path_factory.mktemp("core") / "core"
    guest.process.send_signal(signal.SIGSTOP)
    try:
        done = guest.mizzen("coredump", guest.target, "-o", str(path), "--json")
        live = guest.mizzen("inspect", guest.target, "--json")
    finally:
        guest.process.send_signal(signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["size"] == path.stat().st_size
    assert 0 < told["used"] <= 256 << 20
    yield path, json.loads(live.stdout)
    path.unlink()


def test_a_core_tells_what_the_guest_does(guest, core):
    path, live = core
    told = json.loads(guest.mizzen("inspect", f"file:{path}", "--json").stdout)
    assert told["name"] == str(path)
    assert {**told, "name": live["name"]} == live
    assert oct(path.stat().st_mode)[-3:] == "600"


def test_drgn_opens_a_core(core):
    path, live = core
    program = drgn.Program()
    program.set_core_dump(path)
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    info = program["VMCOREINFO"].string_().decode()
    values = dict(line.split("=", 1) for line in info.splitlines())
    assert values["OSRELEASE"] == live["system"]["release"]
    names = program.read(int(values["SYMBOL(init_uts_ns)"], 16), 400)  # in the kernel's image
    assert live["system"]["version"].encode() in names
    with mizzen.inspect(path) as found:
        kernel = found.kernel
        init_task = kernel.symbols.address("init_task")
        task = next(iter(found.processes()))
        assert task.pid == 1
        types = found._objects
        idle = types.at("task_struct", init_task)
        node = idle.number("tasks.next")
        init = types.around("task_struct", "tasks", node)
        # init's task_struct is in the direct map, its stack in vmalloc's area: by page tables
        assert program.read(init.place("comm"), 16) == init.bytes("comm")
        assert program.read_u32(init.number("stack")) == STACK_END
        physical = kernel.tables.physical(init.address)
        assert program.read(physical, 64, physical=True) == kernel.memory.read(physical, 64)


def test_crash_opens_a_core(core):
    path, live = core
    done = subprocess.run(
        ["crash", "--osrelease", path], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == live["system"]["release"]


def test_makedumpfile_finds_the_log_in_a_core(core, tmp_path):
    path, live = core
    subprocess.run(["makedumpfile", "--dump-dmesg", path, tmp_path / "log"], check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    texts = [line for one in live["log"] for line in one["text"].split("\n")]
    # Newer ones tell after the time which task or CPU has said it, too.
    told = [re.sub(r"^\[ *\d+\.\d+\] (\[ *[TC]\d+\] )?", "", line) for line in lines]
    assert told == texts


def test_a_kernel_that_names_functions_only_is_still_told_of(core):
    """Without CONFIG_KALLSYMS_ALL."""
    path, live = core
    with mizzen.inspect(path) as found:
        named = found.kernel.symbols.by_name
        functions = Symbols({name: named[name] for name in FUNCTIONS if name in named})
        bare = Inspection(dataclasses.replace(found.kernel, symbols=functions), "bare")
        assert [one.pid for one in bare.processes()] == [one["pid"] for one in live["processes"]]
        assert [one.target for one in bare.mounts()] == [one["target"] for one in live["mounts"]]
        assert [one.text for one in bare.log()] == [one["text"] for one in live["log"]]
        assert len(bare.sockets()) == len(live["sockets"])
        system = bare.system()
        assert system.command_line == live["system"]["command_line"]
        assert "CONFIG_KALLSYMS_ALL" in system.missing["uptime"]
        with pytest.raises(Failure, match="vm_zone_stat"):
            bare.memory()


def test_a_kernel_without_vmcoreinfo_gets_what_readers_need(core):
    path, _ = core
    with mizzen.inspect(path) as found:
        own = vmcoreinfo.parse(found.vmcoreinfo())
        composed = vmcoreinfo.parse(vmcoreinfo.composed(found.kernel))
    assert {key: own[key] for key in composed} == composed


@settings(max_examples=15, derandomize=True)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 30, 1000]))
def test_damaged_types_are_told_of_or_refused(core, random, count):
    path, _ = core
    with mizzen.inspect(path) as found:
        kernel = found.kernel
        start, stop = (kernel.symbols.address(f"__{name}_BTF") for name in ("start", "stop"))
        data = bytearray(kernel.memory.read(kernel.physical(start), stop - start))
        sound = Btf(bytes(data))
        places = [24 + 4 * sound._starts[sound.find(name)] for name in STRUCTURES]
        for _ in range(count):
            data[random.choice(places) + random.randrange(1200)] = random.randrange(256)
        try:
            damaged = Objects(kernel, Btf(bytes(data)))
        except Unknown:
            return
        guest = Inspection(kernel, "damaged")
        guest.__dict__["_objects"] = damaged
        for name in SECTIONS:
            with contextlib.suppress(Failure):
                getattr(guest, name)()


def test_a_kernel_without_btf_tells_its_log_and_why_there_is_no_more(core, tmp_path):
    path, live = core
    damaged = tmp_path / "core"
    subprocess.run(["cp", "--sparse=always", path, damaged], check=True)
    with mizzen.inspect(path) as found, damaged.open("r+b") as file:
        first = found.kernel.image[0]
        start = found.kernel.physical(found.kernel.symbols.address("__start_BTF"))
        assert found.kernel.memory.read(start, 4) == MAGIC
        data = damaged.read_bytes()
        image = found.kernel.memory.read(first.physical, 1 << 16)
        file.seek(data.index(image) + start - first.physical)
        file.write(bytes(4))
    with mizzen.inspect(damaged) as found:
        assert [one.text for one in found.log()] == [one["text"] for one in live["log"]]
        for look in (found.processes, found.mounts, found.sockets, found.memory):
            with pytest.raises(Failure, match="CONFIG_DEBUG_INFO_BTF"):
                look()
        assert found.system().release == live["system"]["release"]
    damaged.unlink()


def test_whoever_may_read_a_dump_may_look(core):
    """In a child that gives up root, since another user may not be able to read this checkout."""
    path, live = core
    path.chmod(0o644)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        file = os.open(path, os.O_RDONLY)
        os.setgid(65534)
        os.setuid(65534)
        try:
            with mizzen.inspect(f"file:/proc/self/fd/{file}") as found:
                os.write(writer, str(len(found.processes())).encode())
        except Failure as failure:
            os.write(writer, str(failure).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as told:
        assert told.read() == str(len(live["processes"]))


def test_root_writes_into_the_folder_of_another(guest, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    done = guest.mizzen("coredump", guest.target, "-o", str(folder / "core"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["core"]
    (folder / "core").unlink()


def test_a_full_disk_leaves_nothing(guest, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "small", place], check=True)
    try:
        done = guest.mizzen("coredump", guest.target, "-o", str(place / "core"))
        left = list(place.iterdir())
    finally:
        subprocess.run(["umount", place], check=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert left == []


def test_a_dump_of_memory_around_the_hole(boot, tmp_path):
    path = tmp_path / "core"
    guest = boot(machine="q35", memory="5G")
    done = guest.mizzen("coredump", guest.target, "-o", str(path))
    assert done.returncode == 0, done.stderr
    with mizzen.inspect(path) as found:
        assert len(found.kernel.memory.ranges) == 2
        assert found.kernel.memory.ranges[-1].end > 5 << 30
        assert found.memory().total > 4 << 30
        assert [one.pid for one in found.processes()][:2] == [1, 2]
    path.unlink()


def test_a_dump_that_qemu_wrote(boot, tmp_path):
    monitor = tmp_path / "qmp"
    guest = boot("-qmp", f"unix:{monitor},server=on,wait=off")
    path = tmp_path / "dump"
    arguments = {"paging": False, "protocol": f"file:{path}"}
    asked = [{"execute": "qmp_capabilities"},
             {"execute": "dump-guest-memory", "arguments": arguments}]  # fmt: skip
    answers = []
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.connect(str(monitor))
        stream = qmp.makefile("rw")
        stream.readline()
        for request in asked:
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            while "return" not in (answer := json.loads(stream.readline())):
                answers.append(answer)
    assert all("error" not in answer for answer in answers)
    with mizzen.inspect(path) as found:
        assert found.release == guest.console.run("uname -r")
        assert [one.pid for one in found.processes()][:2] == [1, 2]
    path.unlink()
