import json
import os
import subprocess
import sys
from pathlib import Path


def doctor(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    folders = {"MIZZEN_STATE": f"{tmp_path}/state", "MIZZEN_RUNTIME": f"{tmp_path}/run"}
    return subprocess.run(
        [sys.executable, "-m", "mizzen", "doctor", *arguments],
        env={**os.environ, **folders, **env},
        capture_output=True,
        check=False,
    )


def test_json_says_whether_the_host_is_ready(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["ready"] else 1)
    assert {"kvm", "qemu", "buildah", "attach"} <= {found["item"] for found in told["findings"]}


def test_what_is_missing_comes_with_its_mend_and_status_1(tmp_path: Path) -> None:
    done = doctor(tmp_path, PATH=str(tmp_path))
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    qemu = next(at for at, line in enumerate(lines) if line.split()[:2] == ["✗", "qemu"])
    assert "apt-get install qemu-system-x86" in lines[qemu + 1]
    assert lines[-1].startswith("Missing: ")


def test_a_terminal_without_unicode_is_spoken_to(tmp_path: Path) -> None:
    done = doctor(tmp_path, PYTHONIOENCODING="latin-1")
    assert b"? " in done.stdout
    assert done.stderr == b""
