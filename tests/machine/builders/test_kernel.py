import asyncio
import stat

import pytest

from mizzen.builders import initramfs
from mizzen.builders.kernel import debian_kernel, user_kernel
from mizzen.builders.modules import WANTED, needed
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.progress import silent


def test_debians_kernel_is_complete(kernel):
    found = {module.name for module in needed(kernel.modules)}
    builtin = (kernel.modules / "modules.builtin").read_text()
    assert kernel.release.endswith("-cloud-amd64")
    assert all(name in found or f"/{name}.ko" in builtin for name in WANTED)
    assert user_kernel(kernel.path, kernel.modules) == kernel


def test_a_known_kernel_needs_neither_network_nor_programs(folders, kernel, monkeypatch):
    monkeypatch.setattr("mizzen.host.process.which", pytest.fail)
    assert asyncio.run(debian_kernel(folders, silent)) == kernel


def test_nothing_temporary_is_left_of_a_fetched_kernel(folders, kernel):
    left = {path.name for path in (folders.cache / "kernels").iterdir()}
    assert {name for name in left if name.startswith(".")} == {".lock"}


def test_a_suite_that_does_not_exist_is_told_in_one_line(folders):
    with pytest.raises(Failure) as failure:
        asyncio.run(debian_kernel(folders, silent, "nosuchsuite"))
    assert "nosuchsuite" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_an_unreachable_mirror_is_told_in_one_line(folders, kernel, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    elsewhere = Folders(tmp_path, tmp_path)
    with pytest.raises(Failure, match="check the network and the mirror") as failure:
        asyncio.run(debian_kernel(elsewhere, silent))
    assert "\n" not in str(failure.value)
    assert asyncio.run(debian_kernel(folders, silent)) == kernel


def unpacked(archive):
    """Return (mode, device, content) by name of a cpio archive, read as the kernel reads it."""
    files, place = {}, 0
    while True:
        header = archive[place : place + 110]
        assert header[:6] == b"070701"
        fields = [int(header[at : at + 8], 16) for at in range(6, 110, 8)]
        start = place + 110
        name = archive[start : start + fields[11] - 1].decode()
        if name == "TRAILER!!!":
            return files
        data = (start + fields[11] + 3) // 4 * 4
        files[name] = (fields[1], (fields[9], fields[10]), archive[data : data + fields[6]])
        place = (data + fields[6] + 3) // 4 * 4


def test_the_initramfs_holds_init_and_modules_in_load_order(folders, kernel, init):
    made = asyncio.run(initramfs.build(folders, kernel, init))
    files = unpacked(made.read_bytes())
    records = files["mizzen/modules"][2].split(b"\0")
    assert records.pop() == b""
    paths = [record.decode().removeprefix("module=/") for record in records]
    assert paths == [
        f"modules/{number:02}-{module.name}.ko"
        for number, module in enumerate(needed(kernel.modules))
    ]
    assert all(files[path][2].startswith(b"\x7fELF") for path in paths)
    assert stat.S_ISCHR(files["dev/console"][0])
    assert files["dev/console"][1] == (5, 1)
    assert files["init"][2] == init.read_bytes()
