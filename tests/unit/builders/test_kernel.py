import struct

import pytest

from mizzen.builders.kernel import user_kernel
from mizzen.model.errors import Failure


def vmlinux(path, release="6.1.0"):
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, 62)
    path.write_bytes(header.ljust(64, b"\0") + f"Linux version {release} (x)".encode())
    return path


def test_a_users_kernel_is_taken_as_it_is(tmp_path):
    kernel = user_kernel(vmlinux(tmp_path / "vmlinux"))
    assert (kernel.path, kernel.release, kernel.modules) == (tmp_path / "vmlinux", "6.1.0", None)


def test_digest_depends_on_the_content_not_the_path(tmp_path):
    one = user_kernel(vmlinux(tmp_path / "one"))
    same = user_kernel(vmlinux(tmp_path / "same"))
    other = user_kernel(vmlinux(tmp_path / "other", "6.2.0"))
    assert one.digest == same.digest != other.digest


def test_what_is_no_kernel_is_refused_by_what_it_is(tmp_path):
    text = tmp_path / "notes"
    text.write_text("hello")
    with pytest.raises(Failure, match="it is a text file; name a bzImage"):
        user_kernel(text)
    with pytest.raises(Failure, match="it is a folder"):
        user_kernel(tmp_path)
    with pytest.raises(Failure, match="there is no such file"):
        user_kernel(tmp_path / "none")


def test_a_missing_modules_folder_is_told(tmp_path):
    with pytest.raises(Failure, match=r"modules folder .* does not exist"):
        user_kernel(vmlinux(tmp_path / "vmlinux"), tmp_path / "none")
