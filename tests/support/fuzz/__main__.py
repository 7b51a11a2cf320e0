"""Looks for inputs that break a target, led by coverage: ``python -m fuzz TARGET SECONDS CORPUS``.

What breaks it, or reaches what nothing kept does, is added to the folder CORPUS/TARGET.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import kept, session
from .targets import TARGETS


def main(name: str, seconds: str, corpus: str) -> int:
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
