"""A graph of terms, and how a change goes through it.

Terms that may have changed are computed in the order of their heights, so each once a change and
after all its inputs; one whose state comes out equal ends the change there.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from .states import Blocked, Ok, State
from .terms import Term

if TYPE_CHECKING:
    from .operation import Operation
    from .step import Step

_current: ContextVar[Graph] = ContextVar("graph")


def current() -> Graph:
    """Return the graph that is being built.

    Raises TypeError outside of a pipeline.
    """
    try:
        return _current.get()
    except LookupError:
        raise TypeError(
            "steps are called in a function under @pipeline, and what they return is used there"
        ) from None


class Runner(Protocol):
    """Has operations done for the steps of a graph."""

    def want(self, step: Step[Any], operation: Operation[Any]) -> State[Any]:
        """Return what is known of an operation's value, and mark the step when that changes.

        What the step wanted before is let go of.
        """
        ...

    def unwant(self, step: Step[Any]) -> None:
        """Let go of what a step wanted."""
        ...


class Unattached:
    """Has nothing done: a ``Runner`` for a graph that is only looked at."""

    def want(self, step: Step[Any], operation: Operation[Any]) -> State[Any]:  # noqa: ARG002
        """Tell that nothing is known."""
        return Blocked(step, None)

    def unwant(self, step: Step[Any]) -> None:
        """Do nothing."""


class Graph:
    """The terms of one pipeline.

    runner: what runs its steps' operations.
    changed: if set, called with each term whose state has changed. wake: called when there is
    something to ``settle``, once until that is done.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.terms: dict[int, Term[Any]] = {}
        self.changed: Callable[[Term[Any]], None] | None = None
        self.wake: Callable[[], None] = lambda: None
        self.runner: Runner = Unattached()
        self._count = 0
        self._heap: list[tuple[int, int, Term[Any]]] = []
        self._scope: list[Term[Any]] | None = None

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Make this the graph that terms are added to while the block lasts."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @contextlib.contextmanager
    def scope(self) -> Iterator[list[Term[Any]]]:
        """Do as ``building``, and yield the list of the terms that the block adds."""
        before, self._scope = self._scope, []
        try:
            with self.building():
                yield self._scope
        finally:
            self._scope = before

    def add(self, term: Term[Any]) -> int:
        """Take a new term in, and return its number."""
        self._count += 1
        self.terms[self._count] = term
        if self._scope is not None:
            self._scope.append(term)
        self.mark(term, number=self._count)
        return self._count

    def remove(self, terms: Iterable[Term[Any]]) -> None:
        """Take terms out that nothing else follows from."""
        for term in terms:
            for source in term.inputs:
                if source.dependents is not None:
                    source.dependents.pop(term, None)
            self.terms.pop(term.number, None)
            term.left()

    def connect(self, term: Term[Any], source: Term[Any]) -> None:
        """Make a term follow from another one too."""
        term.inputs = (*term.inputs, source)
        if source.dependents is None:
            source.dependents = {}
        source.dependents[term] = None
        self._raise(term, source.height + 1)

    def disconnect(self, term: Term[Any], sources: Iterable[Term[Any]]) -> None:
        """Make a term follow from others no more."""
        gone = {id(source) for source in sources}
        for source in term.inputs:
            if id(source) in gone and source.dependents is not None:
                source.dependents.pop(term, None)
        term.inputs = tuple(source for source in term.inputs if id(source) not in gone)

    def mark(self, term: Term[Any], *, number: int = 0) -> None:
        """Have a term computed again."""
        if term.queued:
            return
        term.queued = True
        if not self._heap:
            self.wake()
        heapq.heappush(self._heap, (term.height, number or term.number, term))

    @property
    def settled(self) -> bool:
        """Whether there is nothing to compute."""
        return not self._heap

    def settle(self) -> None:
        """Compute all that may have changed, and what follows from it."""
        heap = self._heap
        while heap:
            height, _, term = heap[0]
            if height < term.height:  # it was raised meanwhile
                heapq.heapreplace(heap, (term.height, term.number, term))
                continue
            heapq.heappop(heap)
            term.queued = False
            if term.number in self.terms:
                self._update(term)

    def _update(self, term: Term[Any]) -> None:
        """Compute a term, and queue what follows from it; go on where that is one term alone."""
        heap = self._heap
        while True:
            state = term.compute()
            if _same(term.state, state):
                return
            term.state = state
            if self.changed is not None:
                self.changed(term)
            following = term.dependents
            if not following:
                return
            if len(following) == 1 and not heap:
                (term,) = following
                continue
            for dependent in following:
                if not dependent.queued:
                    dependent.queued = True
                    heapq.heappush(heap, (dependent.height, dependent.number, dependent))
            return

    def _raise(self, term: Term[Any], height: int) -> None:
        """Give a term at least a height, and those that follow from it more than that."""
        pending = [(term, height)]
        while pending:
            one, least = pending.pop()
            if one.height < least:
                one.height = least
                pending += [(dependent, least + 1) for dependent in one.dependents or ()]


def _same(before: State[Any], after: State[Any]) -> bool:
    try:
        if type(after) is Ok and type(before) is Ok:
            return after.value is before.value or bool(after.value == before.value)
        return before is after or bool(before == after)
    except Exception:
        return False
