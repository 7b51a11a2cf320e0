"""Nothing that a guest may write makes its readers crash, hang, or leave what is theirs.

What once did, and what reaches the most of them, is kept in ``corpus/`` and tried on every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.limits import limited
from fuzz.targets import TARGETS

from fuzz import kept, session

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
SECONDS = 60
KEPT = sorted(CORPUS.glob("*/*"))


@pytest.fixture(scope="module", autouse=True)
def _cleaned():
    yield
    session.clean()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_kept_breaks_nothing(path):
    with limited():
        TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_corpus_of_bounded_size(name):
    sizes = [path.stat().st_size for path in (CORPUS / name).iterdir()]
    assert sizes
    assert sum(sizes) <= kept.FOLDER_MAX


@pytest.mark.parametrize("name", TARGETS)
def test_looking_for_more_finds_nothing(request, tmp_path, name):
    if not request.config.getoption("--matrix", default=False):
        pytest.skip("takes a minute: --matrix")
    (tmp_path / name).mkdir()
    for path in (CORPUS / name).iterdir():
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", name, str(SECONDS), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(HERE.parent / "support")},
        capture_output=True, text=True, check=False, timeout=SECONDS + 240,
    )  # fmt: skip
    if done.returncode:
        pytest.fail(done.stderr[-8000:], pytrace=False)
