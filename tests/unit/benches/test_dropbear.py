"""The peer's server is taken out of packages with all it needs."""

from __future__ import annotations

from mizzen.benches import debian, dropbear


def test_libraries_are_found_wherever_the_release_has_them(tmp_path):
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/dropbear").write_bytes(b"server")
    for folder in debian.LIBRARIES:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lib/x86_64-linux-gnu/libc.so.6").write_bytes(b"c")
    (tmp_path / "usr/lib/x86_64-linux-gnu/libz.so.1.2").write_bytes(b"z")
    (tmp_path / "usr/lib/x86_64-linux-gnu/libz.so.1").symlink_to("libz.so.1.2")
    (tmp_path / "usr/lib/x86_64-linux-gnu/gconv.so").mkdir()
    found = {entry.name: entry.data for entry in dropbear.entries(tmp_path)}
    assert found["bin/dropbear"] == b"server"
    assert found["lib/libc.so.6"] == b"c"
    assert found["lib/libz.so.1"] == b"libz.so.1.2"
    assert "lib/gconv.so" not in found
