"""Pipelines: functions that build graphs, and the files they are in."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from mizzen.model.errors import Failure

from .graph import Graph


class Pipeline:
    """A function that builds a graph when it is called; it returns nothing."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.name = function.__name__.replace("_", "-")
        self.__doc__ = function.__doc__

    def build(self) -> Graph:
        """Return the graph that the function describes. Raises what the function raises."""
        graph = Graph(self.name)
        with graph.building():
            self._function()
        return graph

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


def pipeline(function: Callable[[], object]) -> Pipeline:
    """Make a function a pipeline; its name is the function's, with dashes."""
    return Pipeline(function)


def load(path: Path) -> list[Graph]:
    """Return the graphs of a file's pipelines, in the order in which they are written.

    Raises Failure, with file and line, if the file or a pipeline in it does not run.
    """
    what = f"cannot load {path}"
    if not path.is_file():
        raise Failure(what, "there is no such file", "name a Python file with a @pipeline in it")
    linecache.checkcache(str(path))
    if path.suffix != ".py":
        raise Failure(what, "it is no Python file", "give it a name that ends with .py")
    loader = _Fresh(path.stem, str(path.resolve()))
    spec = importlib.util.spec_from_loader(path.stem, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.path.copy()
    sys.path.insert(0, str(path.resolve().parent))  # it may import what lies beside it
    try:
        loader.exec_module(module)
        found = [value for value in vars(module).values() if isinstance(value, Pipeline)]
        graphs = [one.build() for one in dict.fromkeys(found)]
    except Failure:
        raise
    except (Exception, SystemExit) as error:
        raise _located(what, path, error) from error
    finally:
        sys.path[:] = before
    if not graphs:
        raise Failure(
            what, "it holds no pipeline", "put @pipeline above a function that calls steps"
        )
    _check_names(what, graphs)
    return graphs


class _Fresh(SourceFileLoader):
    """Compiles a file anew: a compiled one beside it may be of what it was within that second."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _check_names(what: str, graphs: list[Graph]) -> None:
    names = [graph.name for graph in graphs]
    for name in names:
        if names.count(name) > 1:
            raise Failure(what, f"two pipelines are called {name}", "rename one")


def _located(what: str, path: Path, error: BaseException) -> Failure:
    """Return an exception as a failure that names the user's own line."""
    file, line = str(path), 0
    if isinstance(error, SyntaxError) and error.lineno:
        file, line = error.filename or file, error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).resolve().is_relative_to(path.resolve().parent):
            file, line = frame.filename, frame.lineno or 0
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return Failure(what, f"{type(error).__name__}: {words}", f"mend {file}:{line}")
