"""Collections that grow and shrink by key."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .graph import Graph
from .states import Failed, Ok, State
from .terms import Term, blocked


def each(
    graph: Graph, term: Term[Any], function: Callable[[Any, Term[Any]], Term[Any]]
) -> Term[dict[Any, Any]]:
    """Return what a function makes of each value of a mapping; see ``Term.each``."""
    keys = _Keys(graph, term, function)
    joined = _Joined(graph, keys)
    keys.joined = joined
    return joined


@dataclass(slots=True)
class _Branch:
    """What was made for a key: the value's term, the result, and all terms between them."""

    item: _Item
    result: Term[Any] | None = None
    error: Exception | None = None
    terms: list[Term[Any]] = field(default_factory=list)


class _Item(Term[Any]):
    """A mapping's value of one key."""

    __slots__ = ("key",)

    def __init__(self, graph: Graph, keys: _Keys, key: Hashable) -> None:
        self.key = key
        super().__init__(graph, (keys,), str(key))

    def compute(self) -> State[Any]:
        """Look the value up, and keep it while the mapping is not known."""
        state = self.inputs[0].state
        if isinstance(state, Ok) and self.key in state.value:
            return Ok(state.value[self.key])
        return blocked(self.inputs) or self.state


class _Keys(Term[Any]):
    """The mapping; makes a branch for each key that comes, and removes it when that has gone."""

    __slots__ = ("branches", "function", "joined")

    def __init__(
        self, graph: Graph, term: Term[Any], function: Callable[[Any, Term[Any]], Term[Any]]
    ) -> None:
        self.branches: dict[Hashable, _Branch] = {}
        self.function = function
        self.joined: _Joined | None = None
        super().__init__(graph, (term,), "each")

    def compute(self) -> State[Any]:
        """Make the branches be those of the mapping's keys."""
        state = self.inputs[0].state
        if not isinstance(state, Ok):
            return blocked(self.inputs) or state
        if not isinstance(state.value, Mapping):
            kind = type(state.value).__name__
            return Failed(TypeError(f"each() takes a mapping's keys, and this is of type {kind}"))
        for key in [key for key in self.branches if key not in state.value]:
            self._close(self.branches.pop(key))
        for key in state.value:
            if key not in self.branches:
                self.branches[key] = self._open(key)
        return state

    def left(self) -> None:
        """Take the branches out of the graph too."""
        for branch in self.branches.values():
            self.graph.remove(branch.terms)

    def _open(self, key: Hashable) -> _Branch:
        with self.graph.scope() as terms:
            branch = _Branch(_Item(self.graph, self, key), terms=terms)
            try:
                branch.result = self.function(key, branch.item)
                if not isinstance(branch.result, Term):
                    kind, branch.result = type(branch.result).__name__, None
                    raise TypeError(f"each() takes a function that returns a term, not {kind}")
            except Exception as error:
                branch.error = error
        if branch.result is not None and self.joined is not None:
            self.graph.connect(self.joined, branch.result)
        return branch

    def _close(self, branch: _Branch) -> None:
        if branch.result is not None and self.joined is not None:
            self.graph.disconnect(self.joined, [branch.result])
        self.graph.remove(branch.terms)


class _Joined(Term[dict[Any, Any]]):
    """The results by their keys."""

    __slots__ = ()

    def __init__(self, graph: Graph, keys: _Keys) -> None:
        super().__init__(graph, (keys,), "")

    def compute(self) -> State[dict[Any, Any]]:
        """Collect the results; in the mapping's order."""
        keys = self.inputs[0]
        assert isinstance(keys, _Keys)
        for branch in keys.branches.values():
            if branch.error is not None:
                return Failed(branch.error)
        if (held := blocked(self.inputs)) is not None:
            return held
        assert isinstance(keys.state, Ok)
        return Ok({key: _value(keys.branches[key]) for key in keys.state.value})


def _value(branch: _Branch) -> Any:
    assert branch.result is not None
    assert isinstance(branch.result.state, Ok)
    return branch.result.state.value
