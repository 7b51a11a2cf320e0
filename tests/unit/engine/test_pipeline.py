"""Pipeline files: what is loaded, and where mistakes are said to be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mizzen.engine.pipeline import load
from mizzen.model.errors import Failure

HEAD = "from mizzen import pipeline\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "site.py"
    path.write_text(text)
    return path


def test_every_pipeline_of_a_file_is_built_in_its_order(tmp_path: Path) -> None:
    text = f"{HEAD}@pipeline\ndef one(): pass\n@pipeline\ndef the_other(): pass\n"
    assert [graph.name for graph in load(written(tmp_path, text))] == ["one", "the-other"]


def test_it_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_site.py").write_text("NAME = 'x'\n")
    path = written(tmp_path, f"{HEAD}import beside_site\n@pipeline\ndef one(): pass\n")
    before = list(sys.path)
    assert load(path)
    assert sys.path == before


def test_a_file_that_has_just_changed_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python keeps compiled files by their size and the second of their change."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for name in ("one", "two"):
        path = written(tmp_path, f"{HEAD}@pipeline\ndef {name}(): pass\n")
        os.utime(path, (1e9, 1e9))
        assert [graph.name for graph in load(path)] == [name]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("def broken(:\n", "SyntaxError: invalid syntax", 1),
        (f"{HEAD}\nimport nothing_of_that_name\n", "ModuleNotFoundError: No module", 3),
        (f"{HEAD}@pipeline\ndef one():\n    return 1 / 0\n", "ZeroDivisionError: division", 4),
        (f"{HEAD}raise SystemExit(3)\n", "SystemExit: 3", 2),
        (
            "from mizzen import gather, pipeline\n@pipeline\ndef one():\n"
            "    if gather([]):\n        pass\n",
            "TypeError: <term value of .*site.py:4> is not known yet",
            4,
        ),
        (
            "from mizzen import gather, pipeline\nterm = gather([])\n",
            "TypeError: steps are called in a function under @pipeline",
            2,
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, why: str, line: int) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Failure, match=why) as caught:
        load(path)
    assert caught.value.fix == f"mend {path}:{line}"


def test_a_file_without_pipelines_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="it holds no pipeline; put @pipeline above a function"):
        load(written(tmp_path, "x = 1\n"))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no such file"):
        load(tmp_path / "site.py")


def test_a_pipeline_that_is_imported_from_elsewhere_counts_once(tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEAD}@pipeline\ndef one(): pass\nsame = one\n")
    assert len(load(path)) == 1


def test_two_pipelines_of_one_name_are_refused(tmp_path: Path) -> None:
    text = f"{HEAD}one = pipeline(lambda: None)\nother = pipeline(lambda: None)\n"
    with pytest.raises(Failure, match="two pipelines are called"):
        load(written(tmp_path, text))
