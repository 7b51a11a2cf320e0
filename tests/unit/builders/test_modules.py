import lzma
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mizzen.builders.modules import (
    canonical,
    load_order,
    modinfo,
    needed,
    needs,
    parse_builtin,
    parse_dep,
)
from mizzen.model.errors import Failure


def ko(info: bytes) -> bytes:
    """Return a 64-bit ELF file with a .modinfo section."""
    names = b"\0.modinfo\0.shstrtab\0"
    table = 64 + len(info) + len(names)

    def section(name: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQ", name, 1, 0, 0, offset, size).ljust(64, b"\0")

    header = b"\x7fELF\x02\x01\x01".ljust(40, b"\0") + struct.pack("<Q", table)
    header += bytes(10) + struct.pack("<HHH", 64, 3, 2)
    sections = bytes(64) + section(1, 64, len(info)) + section(10, 64 + len(info), len(names))
    return header + info + names + sections


def folder_of(path, modules, builtin=""):
    for name, info in modules.items():
        file = path / "kernel" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = ko(info)
        if name.endswith(".xz"):
            data = lzma.compress(data)
        if name.endswith(".gz"):
            data = zlib.compress(data, wbits=31)
        file.write_bytes(data)
    (path / "modules.builtin").write_text(builtin)
    return path


@pytest.mark.parametrize(
    "name", ["virtio_rng", "virtio-rng.ko", "kernel/drivers/char/virtio-rng.ko.xz"]
)
def test_names_are_the_same_however_they_are_spelled(name):
    assert canonical(name) == "virtio_rng"


def test_modinfo_yields_what_a_module_needs():
    info = b"license=GPL\0depends=virtio,virtio-ring\0softdep=pre: crc32c post: later\0junk\0"
    assert needs(modinfo(ko(info))) == ("virtio", "virtio_ring", "crc32c")


def test_a_module_without_dependencies_needs_none():
    assert needs(modinfo(ko(b"depends=\0"))) == ()


@given(st.binary(max_size=400))
def test_any_bytes_after_an_elf_header_are_survived(data):
    assert isinstance(modinfo(b"\x7fELF\x02\x01" + data), list)


@given(st.binary(max_size=200), st.integers(0, 500), st.integers(0, 255))
@example(b"", 47, 128)
def test_a_damaged_module_is_survived(info, place, value):
    data = bytearray(ko(info))
    data[place % len(data)] = value
    assert isinstance(modinfo(bytes(data)), list)


GRAPHS = st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh")))


@given(GRAPHS)
def test_load_order_holds_each_module_once_with_all_it_needs(graph):
    order = load_order(graph, graph.__contains__, graph.__getitem__)
    assert sorted(order) == sorted(graph)


@given(st.integers(1, 8).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1)), min_size=n)))
def test_without_cycles_each_module_loads_after_what_it_needs(edges):
    graph = {str(i): [str(j) for j in needed if j < i] for i, needed in enumerate(edges)}
    order = load_order(reversed(graph), graph.__contains__, graph.__getitem__)
    for name, wanted in graph.items():
        assert all(order.index(other) < order.index(name) for other in wanted)


def test_modules_dep_and_builtin_are_read():
    assert parse_dep("kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko:\n") == {
        "kernel/a.ko": ("kernel/b.ko", "kernel/c.ko"),
        "kernel/b.ko": (),
    }
    assert parse_builtin("kernel/fs/ext4/ext4.ko\nkernel/x-y.ko\n") == {"ext4", "x_y"}


def test_dependencies_come_from_the_modules_where_depmod_has_not_run(tmp_path):
    modules = {"net.ko.xz": b"depends=bus,core\0", "bus.ko.gz": b"depends=core\0"}
    folder = folder_of(tmp_path, modules, builtin="kernel/core.ko\nkernel/disk.ko\n")
    assert [module.name for module in needed(folder, ("net", "disk"))] == ["bus", "net"]


def test_dependencies_come_from_modules_dep_where_there_is_one(tmp_path):
    folder = folder_of(tmp_path, {"net.ko": b"", "bus.ko": b""})
    (folder / "modules.dep").write_text("kernel/net.ko: kernel/bus.ko\nkernel/bus.ko:\n")
    assert [module.name for module in needed(folder, ("net",))] == ["bus", "net"]


def test_modules_are_read_decompressed(tmp_path):
    folder = folder_of(tmp_path, {"net.ko.xz": b"depends=\0"})
    assert needed(folder, ("net",))[0].read() == ko(b"depends=\0")


def test_a_missing_module_is_named(tmp_path):
    with pytest.raises(Failure, match="module erofs is neither in"):
        needed(folder_of(tmp_path, {}), ("erofs",))


def test_fuse_is_loaded_where_there_is_a_module(tmp_path):
    folder = folder_of(tmp_path, {"net.ko": b"depends=\0", "fuse.ko": b"depends=\0"})
    assert [module.name for module in needed(folder, ("net",))] == ["net", "fuse"]
