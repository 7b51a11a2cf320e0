from __future__ import annotations

import subprocess

import hello
import pytest


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    return hello.build(tmp_path_factory.mktemp("hello") / "source", "fuzz")


@pytest.mark.parametrize("seed", range(1, 5))
def test_packets_of_any_kind_are_survived(fuzz, seed):
    done = subprocess.run(
        [fuzz, str(seed), "100000"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 10000


def test_equal_sources_make_equal_kernels(tmp_path):
    first, second = (hello.build(tmp_path / name) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert hello.build(tmp_path / "three", release="2").read_bytes() != first.read_bytes()
