"""The project's rules that a program can check, each as a test."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from mizzen.host.process import PACKAGES

ROOT = Path(__file__).parents[2]
TOOLS = sysconfig.get_path("scripts")


def check(program: str, *arguments: str | Path) -> None:
    path = shutil.which(program, path=TOOLS)
    assert path, f"{program} is not in this environment; use: ./run test"
    done = subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    if done.returncode:
        pytest.fail(f"{program}:\n{done.stdout}{done.stderr}", pytrace=False)


def test_python_has_no_lint() -> None:
    check("ruff", "check", "--no-cache", ".")


def test_python_is_formatted() -> None:
    check("ruff", "format", "--no-cache", "--check", ".")


def test_types_hold() -> None:
    check("mypy")


def test_imports_run_one_way() -> None:
    check("lint-imports")


def test_c_is_formatted() -> None:
    trees = ("guest", "examples")
    sources = sorted(path for tree in trees for path in (ROOT / tree).rglob("*.[ch]"))
    assert sources
    check("clang-format", "--dry-run", "-Werror", *sources)


def test_scripts_parse_in_bash() -> None:
    for script in (ROOT / "run", ROOT / ".ci" / "run"):
        subprocess.run(["bash", "-n", script], check=True)


def test_run_installs_the_package_of_every_program() -> None:
    text = (ROOT / "run").read_text()
    arrays = re.findall(r"packages\+?=\((.*?)\) *(?:;|$)", text, re.MULTILINE | re.DOTALL)
    lines = [line for array in arrays for line in array.splitlines()]
    named = {word for line in lines for word in line.partition("#")[0].split()}
    always = {"apt", "coreutils", "dpkg", "systemd", "util-linux"}  # on every Debian
    assert set(PACKAGES.values()) - always <= named
