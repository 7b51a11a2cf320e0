"""Steps: the terms that operations' values are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mizzen.model.errors import Failure

from .graph import Graph, current
from .operation import Operation, decode, encode
from .policy import Policy, applied
from .states import Failed, Ok, State
from .terms import Constant, Term, blocked, caller

ValueT = TypeVar("ValueT")


def step(operation: type[Operation[ValueT]], label: str = "", /, **inputs: object) -> Term[ValueT]:
    """Return an operation's value as a term.

    label: what tells it from others of its kind, such as a service's name.
    inputs: the operation's fields; each a value, a term, or lists and mappings with terms in them.
    """
    graph = current()
    name = f"{operation.id} {label}".strip()
    for field, value in inputs.items():
        if not _terms(value):
            try:
                _check(operation, field, value)
            except (msgspec.ValidationError, NotImplementedError) as error:
                return failed(name, wrong(name, field, error))
    return Step(graph, operation, name, inputs)


def failed(label: str, error: Exception) -> Term[Any]:
    """Return a step's term that can never be known; the rest of the pipeline goes on."""
    return Constant(current(), Failed(error), label, drawn=True)


def wrong(name: str, field: str, error: Exception) -> Failure:
    """Return what is told of an input of a wrong type."""
    return Failure(f"cannot do {name}", f"{field}: {error}", f"mend {caller()}")


class Step(Term[ValueT]):
    """An operation's value, once the inputs of the operation are known.

    behind: what is so while a latched value stays for those that follow; None if nothing is hidden.
    """

    __slots__ = ("_fields", "behind", "operation", "policy", "wanted")

    def __init__(
        self,
        graph: Graph,
        operation: type[Operation[ValueT]],
        label: str,
        fields: Mapping[str, object],
    ) -> None:
        self.operation = operation
        self.policy: Policy = applied(operation.policy)
        self.wanted: Operation[ValueT] | None = None
        self.behind: State[ValueT] | None = None
        self._fields = fields
        found: dict[int, Term[Any]] = {}
        for value in fields.values():
            found |= {term.number: term for term in _terms(value)}
        super().__init__(graph, tuple(found.values()), label, drawn=True)

    def compute(self) -> State[ValueT]:
        """Have the operation done that the inputs' values make."""
        state, hidden = self._find(), self.behind
        held = self.policy.latched and isinstance(self.state, Ok) and not isinstance(state, Ok)
        self.behind = state if held else None
        if self.behind != hidden and self.graph.changed is not None:
            self.graph.changed(self)
        return self.state if held else state

    def left(self) -> None:
        """Want nothing any more."""
        self._let_go()

    def _find(self) -> State[ValueT]:
        if (held := blocked(self.inputs)) is not None:
            return held  # what was wanted stays so: a machine that serves is not left over
        try:
            operation = self._operation()
        except (msgspec.ValidationError, NotImplementedError, TypeError) as error:
            self._let_go()
            return Failed(Failure(f"cannot do {self.label}", str(error), f"mend {self.where}"))
        self.wanted = operation
        return self.graph.runner.want(self, operation)

    def _let_go(self) -> None:
        if self.wanted is not None:
            self.wanted = None
            self.graph.runner.unwant(self)

    def _operation(self) -> Operation[ValueT]:
        """Return the operation with the inputs' values in it, which are all known."""
        fields = {name: _known(value) for name, value in self._fields.items()}
        made = self.operation(**fields)
        plain = msgspec.to_builtins(made, enc_hook=encode)
        return msgspec.convert(plain, self.operation, dec_hook=decode)


def _terms(value: object) -> list[Term[Any]]:
    if isinstance(value, Term):
        return [value]
    if isinstance(value, Mapping):
        return [term for item in value.values() for term in _terms(item)]
    if isinstance(value, list | tuple):
        return [term for item in value for term in _terms(item)]
    return []


def _known(value: object) -> object:
    if isinstance(value, Term):
        assert isinstance(value.state, Ok)
        return value.state.value
    if isinstance(value, Mapping):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_known, value)) if type(value) in {list, tuple} else value
    return value


def _check(operation: type[Operation[Any]], field: str, value: object) -> None:
    """Raise ValidationError if a field cannot have that value."""
    kinds: Mapping[str, Any] = _hints(operation)
    if field not in kinds:
        known = ", ".join(sorted(kinds))
        raise msgspec.ValidationError(f"there is no such input; there are {known}")
    msgspec.convert(msgspec.to_builtins(value, enc_hook=encode), kinds[field], dec_hook=decode)


def _hints(operation: type[Operation[Any]]) -> Mapping[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(operation)}
