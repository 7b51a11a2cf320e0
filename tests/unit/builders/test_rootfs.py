import os
import py_compile
import subprocess
import sys

from mizzen.builders.rootfs import settle_bytecode

SHOW = "import sys; sys.dont_write_bytecode = True; import m; print(m.__spec__.cached, m.x)"


def module(folder):
    source = folder / "m.py"
    source.write_text("x = 1\n")
    os.utime(source, (1000, 1000))
    compiled = folder / "__pycache__" / f"m.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(source), cfile=str(compiled), doraise=True)
    return source, compiled


def run(folder):
    """Return what Python says of how it found the module's bytecode."""
    command = [sys.executable, "-v", "-c", SHOW]
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stderr


def test_python_takes_settled_bytecode_of_sources_from_1970(tmp_path):
    source, compiled = module(tmp_path)
    assert settle_bytecode(tmp_path) == 1
    os.utime(source, (0, 0))
    assert f"{compiled} matches {source}" in run(tmp_path)


def test_bytecode_is_settled_when_the_build_has_already_reset_times(tmp_path):
    source, compiled = module(tmp_path)
    os.utime(source, (0, 0))
    assert settle_bytecode(tmp_path) == 1
    assert f"{compiled} matches {source}" in run(tmp_path)


def test_stale_bytecode_stays_stale(tmp_path):
    source, compiled = module(tmp_path)
    before = compiled.read_bytes()
    os.utime(source, (2000, 2000))
    assert settle_bytecode(tmp_path) == 0
    os.utime(source, (0, 0))
    source.write_text("x = 12345\n")
    os.utime(source, (0, 0))
    assert settle_bytecode(tmp_path) == 0
    assert compiled.read_bytes() == before


def test_links_are_not_followed_out_of_the_folder(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    _, compiled = module(outside)
    (inside / "__pycache__").mkdir(parents=True)
    (inside / "m.py").write_text("x = 1\n")
    os.utime(inside / "m.py", (1000, 1000))
    (inside / "__pycache__" / compiled.name).symlink_to(compiled)
    assert settle_bytecode(inside) == 0
