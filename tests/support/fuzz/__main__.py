"""Looks for inputs that break a target, led by coverage: ``python -m fuzz TARGET SECONDS CORPUS``.

What breaks it, or reaches what nothing kept does, is added to the folder CORPUS/TARGET.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import kept, session
from .targets import TARGETS

LOCK = Path(__file__).parents[2] / "fuzz" / "requirements.lock"


def install() -> None:
    """Install what only fuzzing needs, unless it is there."""
    if importlib.util.find_spec("atheris") is None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        options = ("--require-hashes", "--only-binary", ":all:", "-r", str(LOCK))
        subprocess.run([*pip, *options], check=True)


def main(name: str, seconds: str, corpus: str) -> int:
    install()
    folder = Path(corpus, name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mizzen-fuzz-") as scratch:
        found = Path(scratch, "found")
        found.mkdir()
        command = [sys.executable, "-m", "fuzz.guided", name, seconds, str(found), str(folder)]
        environment = {**os.environ, "TMPDIR": scratch}
        status = subprocess.run(command, check=False, env=environment).returncode
        if not status:
            print(name, "keeps", kept.add(TARGETS[name], folder, found.iterdir()), "more")
    session.clean()
    return status


sys.exit(main(*sys.argv[1:]))
