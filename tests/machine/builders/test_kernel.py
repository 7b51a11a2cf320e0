import asyncio
import subprocess

import pytest

from mizzen.builders import initramfs
from mizzen.builders.kernel import debian_kernel, user_kernel
from mizzen.builders.modules import WANTED, needed
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


def test_the_initramfs_unpacks_and_lists_its_modules(folders, kernel, init, tmp_path):
    made = asyncio.run(initramfs.build(folders, kernel, init))
    command = ["cpio", "--extract", "--make-directories", "--quiet"]
    with made.open("rb") as archive:
        subprocess.run(command, stdin=archive, cwd=tmp_path, check=True)
    records = (tmp_path / "mizzen/modules").read_bytes().split(b"\0")
    assert records.pop() == b""
    paths = [record.decode().removeprefix("module=/") for record in records]
    assert paths == [
        f"modules/{number:02}-{module.name}.ko"
        for number, module in enumerate(needed(kernel.modules))
    ]
    assert all((tmp_path / path).read_bytes().startswith(b"\x7fELF") for path in paths)
    assert (tmp_path / "dev/console").is_char_device()
    assert (tmp_path / "init").read_bytes() == init.read_bytes()
