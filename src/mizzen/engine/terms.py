"""Terms: values that may not be known yet, and the ways to make new ones of them.

Calling these builds a graph; nothing is computed before the engine does so. Whatever would need a
term's value while the graph is being built raises TypeError, with what to write instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

from .states import Blocked, Cause, Failed, Ok, Running, State, Waiting, cause

if TYPE_CHECKING:
    from .graph import Graph

ValueT_co = TypeVar("ValueT_co", covariant=True)
OtherT = TypeVar("OtherT")
KeyT = TypeVar("KeyT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_OURS = tuple(f"{Path(__file__).parent.parent / name}/" for name in ("engine", "steps"))

_SEVERITY: Mapping[type, int] = {Failed: 4, Waiting: 3, Running: 2, Ok: 1, type(None): 0}


class Where:
    """A place in the user's file."""

    __slots__ = ("file", "line")

    def __init__(self, file: str, line: int) -> None:
        self.file = file
        self.line = line

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def caller() -> Where:
    """Return the line outside of the engine and the steps that led here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno)


class Term(Generic[ValueT_co]):
    """A value that may not be known yet.

    label: how it is shown. inputs: what it follows from. height: more than that of any input.
    drawn: whether it is shown as a box of its own; what is not only passes values on.
    """

    __slots__ = ("dependents", "drawn", "graph", "height", "inputs", "label", "number", "queued",
                 "state", "where")  # fmt: skip

    def __init__(
        self,
        graph: Graph,
        inputs: tuple[Term[Any], ...],
        label: str,
        *,
        drawn: bool = False,
        where: Where | None = None,
    ) -> None:
        self.graph = graph
        self.inputs = inputs
        self.label = label
        self.drawn = drawn
        self.where = where or caller()
        self.dependents: dict[Term[Any], None] | None = None
        self.state: State[ValueT_co] = Blocked(self, None)
        self.queued = False
        self.height: int = 0
        for term in inputs:
            if term.graph is not graph:
                raise TypeError(
                    f"a term of {term.where} belongs to another pipeline; terms are used in the"
                    " pipeline that they were made in"
                )
            self.height = max(self.height, term.height + 1)
            if term.dependents is None:
                term.dependents = {}
            term.dependents[self] = None
        self.number = graph.add(self)

    def compute(self) -> State[ValueT_co]:
        """Return what follows from the inputs' states."""
        raise NotImplementedError

    def left(self) -> None:
        """Be told that the term has left the graph."""

    # Ways to make new terms of it

    def map(self, function: Callable[[ValueT_co], ResultT], label: str = "") -> Term[ResultT]:
        """Return what a function makes of the value. It is called again when the value changes."""
        return Mapped(_graph(), (self,), function, label)

    def pair(self, other: Term[OtherT]) -> Term[tuple[ValueT_co, OtherT]]:
        """Return both values."""
        return Mapped(_graph(), (self, other), _together, "")

    def gate(self, on: Term[object]) -> Term[ValueT_co]:
        """Return the value as soon as another term is known, and is not False."""
        return Gated(_graph(), (self, on), "gate")

    def catch(self) -> Term[ValueT_co | Exception]:
        """Return the value, or the error for which it cannot be known."""
        return Caught(_graph(), (self,), "")

    def cutoff(self, same: Callable[[ValueT_co, ValueT_co], bool]) -> Term[ValueT_co]:
        """Return the value, but an earlier one for as long as the two are the same.

        Equal values (==) never count as a change; this is for those that differ unimportantly.
        """
        return CutOff(_graph(), self, same)

    def each(
        self: Term[Mapping[KeyT, ItemT]],
        function: Callable[[KeyT, Term[ItemT]], Term[ResultT]],
    ) -> Term[dict[KeyT, ResultT]]:
        """Return what steps make of each value of a mapping.

        function: called once for each key that comes, with the key and its value as a term; what
            it makes leaves with the key.
        """
        from .each import each  # noqa: PLC0415 - it is made of terms

        return each(_graph(), self, function)

    # What a term is not

    def __bool__(self) -> NoReturn:
        raise TypeError(_advice(self, "is not known yet and cannot decide an if", "gate()"))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        raise TypeError(_advice(self, "is not known yet and cannot be compared", "map()"))

    __hash__ = object.__hash__

    def __iter__(self) -> NoReturn:
        raise TypeError(_advice(self, "is not known yet and cannot be gone through", "each()"))

    def __str__(self) -> str:
        raise TypeError(_advice(self, "is not known yet and is no text", "map()"))

    def __format__(self, how: str) -> str:
        raise TypeError(_advice(self, "is not known yet and is no text", "map()"))

    def __repr__(self) -> str:
        return f"<term {self.label or 'value'} of {self.where}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        advice = f"map(lambda value: value.{name})"
        raise AttributeError(_advice(self, f"has no {name!r} of its own", advice))

    def _not_known(self, *_: object) -> NoReturn:
        raise TypeError(_advice(self, "is not known yet", "map()"))

    __len__ = __contains__ = __getitem__ = __call__ = __int__ = __float__ = _not_known
    __add__ = __radd__ = __sub__ = __mul__ = __truediv__ = __mod__ = _not_known
    __lt__ = __le__ = __gt__ = __ge__ = _not_known


Input: TypeAlias = ValueT_co | Term[ValueT_co]
"""What steps take: a value, or a term of one."""


def _advice(term: Term[Any], what: str, instead: str) -> str:
    return f"{term!r} {what}; write what is to follow from it as a step, or use {instead}"


def _graph() -> Graph:
    from .graph import current  # noqa: PLC0415 - it holds terms

    return current()


def _together(*values: Any) -> tuple[Any, ...]:
    return values


def gather(terms: Iterable[Term[ItemT]]) -> Term[tuple[ItemT, ...]]:
    """Return the values of many terms, in their order."""
    return Mapped(_graph(), tuple(terms), _together, "")


def constant(value: ResultT, label: str = "") -> Term[ResultT]:
    """Return a term that is known already."""
    return Constant(_graph(), Ok(value), label)


def blocked(inputs: Iterable[Term[Any]]) -> Blocked | None:
    """Return what keeps a term from being known, the worst of it; None if all inputs are."""
    worst: Blocked | None = None
    severity = -1
    for term in inputs:
        state = term.state
        if type(state) is Ok:
            continue
        why = cause(state)
        if _SEVERITY[type(why)] > severity:
            severity = _SEVERITY[type(why)]
            worst = state if isinstance(state, Blocked) else Blocked(term, state)
    return worst


class Constant(Term[ValueT_co]):
    """A term whose state nothing changes."""

    __slots__ = ("_fixed",)

    def __init__(
        self, graph: Graph, state: State[ValueT_co], label: str, *, drawn: bool = False
    ) -> None:
        self._fixed = state
        super().__init__(graph, (), label, drawn=drawn)

    def compute(self) -> State[ValueT_co]:
        """Return the state it was made with."""
        return self._fixed


class Mapped(Term[ValueT_co]):
    """What a function makes of its inputs' values."""

    __slots__ = ("_function",)

    def __init__(
        self,
        graph: Graph,
        inputs: tuple[Term[Any], ...],
        function: Callable[..., ValueT_co],
        label: str,
    ) -> None:
        self._function = function
        super().__init__(graph, inputs, label, drawn=bool(label))

    def compute(self) -> State[ValueT_co]:
        """Call the function."""
        states: list[Any] = [term.state for term in self.inputs]
        try:
            return Ok(self._function(*[state.value for state in states]))
        except Exception as error:
            return blocked(self.inputs) or Failed(error)


class Gated(Term[ValueT_co]):
    """The first input's value, once the second is known and not False."""

    __slots__ = ()

    def compute(self) -> State[ValueT_co]:
        """Pass the value, or tell what it waits for."""
        if (held := blocked(self.inputs)) is not None:
            return held
        term, on = self.inputs
        if isinstance(on.state, Ok) and on.state.value is False:
            return Blocked(on, on.state)
        return term.state


class Caught(Term[ValueT_co]):
    """The input's value, or its error as a value."""

    __slots__ = ()

    def compute(self) -> State[Any]:
        """Make a failure a value."""
        state = self.inputs[0].state
        why: Cause | None = cause(state)
        return Ok(why.error) if isinstance(why, Failed) else state


class CutOff(Term[ValueT_co]):
    """The input's value, as long as it is not the same as the one before."""

    __slots__ = ("_same",)

    def __init__(
        self, graph: Graph, term: Term[ValueT_co], same: Callable[[Any, Any], bool]
    ) -> None:
        self._same = same
        super().__init__(graph, (term,), "")

    def compute(self) -> State[ValueT_co]:
        """Keep the value that there is if the new one is the same."""
        state: State[ValueT_co] = self.inputs[0].state
        if not isinstance(state, Ok):
            return blocked(self.inputs) or state
        held = self.state
        try:
            keep = isinstance(held, Ok) and self._same(held.value, state.value)
        except Exception as error:
            return Failed(error)
        return held if keep else state
