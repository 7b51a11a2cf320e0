"""Ordinary installation: one pure wheel, made from the source archive."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mizzen import __version__
from mizzen.control.doctor import static
from mizzen.host.paths import guest_binary

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    hatchling = (sys.executable, "-m", "hatchling", "build", "-d", folder)
    run(*hatchling, "-t", "sdist", cwd=ROOT)
    names = run("tar", "-xvf", f"mizzen-{__version__}.tar.gz", cwd=folder).splitlines()
    assert not [name for name in names if "/src/mizzen/guest/" in name or "/guest/build/" in name]
    run(*hatchling, "-t", "wheel", cwd=folder / f"mizzen-{__version__}")
    return folder / f"mizzen-{__version__}-py3-none-any.whl"


def test_wheel_is_pure(wheel: Path) -> None:
    assert wheel.exists()
    with zipfile.ZipFile(wheel) as archive:
        about = archive.read(f"mizzen-{__version__}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: true" in about
    assert "Tag: py3-none-any" in about


def test_wheel_holds_the_guest_programs_bit_for_bit(wheel: Path) -> None:
    built = {path.name: path.read_bytes() for path in guest_binary("").iterdir()}
    prefix = "mizzen/guest/"
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name.removeprefix(prefix): archive.read(name)
            for name in archive.namelist()
            if name.startswith(prefix)
        }
        names = archive.namelist()
    assert {"init", "stage1.bin", "stage2"} <= packed.keys()
    assert packed == built
    assert "mizzen/examples/functions/hellooopsie/Dockerfile" in names


def test_installed_wheel_runs_and_finds_static_guest_programs(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    # What Mizzen depends on comes from this environment; Mizzen itself from the wheel alone.
    site = sysconfig.get_path(
        "purelib", vars={"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    )
    Path(site, "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel
    )
    assert run(tmp_path / "venv" / "bin" / "mizzen", "--version") == __version__
    code = "from mizzen.host.paths import guest_binary; print(guest_binary('init'))"
    init = Path(run(python, "-c", code))
    assert init.is_relative_to(tmp_path)
    assert init.stat().st_mode & 0o111
    assert static(init)
