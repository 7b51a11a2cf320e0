"""Terms: the graph that calling them builds, what mistakes raise, and how changes go through."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mizzen import gather, pipeline
from mizzen.engine.graph import Graph
from mizzen.engine.states import Blocked, Failed, Ok, Running, State
from mizzen.engine.terms import Term


class Cell(Term[Any]):
    """A term that a test sets."""

    __slots__ = ("now",)

    def __init__(self, graph: Graph, now: State[Any], label: str = "cell") -> None:
        self.now = now
        super().__init__(graph, (), label)

    def compute(self) -> State[Any]:
        return self.now

    def set(self, value: object) -> None:
        self.now = value if isinstance(value, Running | Failed) else Ok(value)
        self.graph.mark(self)
        self.graph.settle()


class Sheet:
    """A graph with cells that a test sets."""

    def __init__(self) -> None:
        self.graph = Graph("sheet")
        self.calls: list[str] = []

    def cell(self, value: object, label: str = "cell") -> Cell:
        state = value if isinstance(value, Running | Failed) else Ok(value)
        return Cell(self.graph, state, label)

    def build(self, function: Callable[[], Term[Any]]) -> Term[Any]:
        with self.graph.building():
            term = function()
        self.graph.settle()
        return term

    def called(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            self.calls.append(name)
            return function(*values)

        return call


@pytest.fixture
def sheet() -> Sheet:
    return Sheet()


def test_a_map_follows_its_input(sheet: Sheet) -> None:
    one = sheet.cell(1)
    double = sheet.build(lambda: one.map(lambda value: value * 2))
    assert double.state == Ok(2)
    one.set(5)
    assert double.state == Ok(10)


def test_an_equal_value_ends_a_change(sheet: Sheet) -> None:
    one = sheet.cell(1)
    last = sheet.build(
        lambda: one.map(sheet.called("odd", lambda value: value % 2)).map(sheet.called("text", str))
    )
    one.set(3)
    assert sheet.calls == ["odd", "text", "odd"]
    assert last.state == Ok("1")


def test_each_term_is_computed_once_a_change(sheet: Sheet) -> None:
    one = sheet.cell(1)

    def build() -> Term[Any]:
        left = one.map(lambda value: value + 1).map(lambda value: value + 1)
        return gather([left, one]).map(sheet.called("sum", sum))

    total = sheet.build(build)
    sheet.calls.clear()
    one.set(2)
    assert total.state == Ok(6)
    assert sheet.calls == ["sum"]


def test_the_worst_reason_is_told(sheet: Sheet) -> None:
    running, failing = sheet.cell(Running("a")), sheet.cell(Running("b"))
    both = sheet.build(lambda: gather([running.map(str), failing.map(str)]).map(len))
    assert both.state == Blocked(running, Running("a"))
    error = Failed(ValueError("no"))
    failing.set(error)
    assert both.state == Blocked(failing, error)


def test_a_function_that_raises_is_a_failure(sheet: Sheet) -> None:
    one = sheet.cell(0)
    term = sheet.build(lambda: one.map(lambda value: 1 // value))
    assert isinstance(term.state, Failed)
    assert isinstance(term.state.error, ZeroDivisionError)
    one.set(1)
    assert term.state == Ok(1)


def test_a_failure_far_up_is_caught(sheet: Sheet) -> None:
    one = sheet.cell(1)
    caught = sheet.build(lambda: one.map(str).map(len).catch().map(type))
    assert caught.state == Ok(int)
    one.set(Running("again"))
    assert isinstance(caught.state, Blocked)
    one.set(Failed(ValueError("no")))
    assert caught.state == Ok(ValueError)


def test_a_gate_opens_when_the_other_is_known_and_not_false(sheet: Sheet) -> None:
    value, key = sheet.cell(1), sheet.cell(Running("looking"))
    gated = sheet.build(lambda: value.gate(key))
    assert gated.state == Blocked(key, Running("looking"))
    key.set(False)
    assert gated.state == Blocked(key, Ok(value=False))
    key.set("anything")
    assert gated.state == Ok(1)


def test_a_cutoff_keeps_what_is_the_same(sheet: Sheet) -> None:
    one = sheet.cell(10)
    near = sheet.build(lambda: one.cutoff(lambda old, new: abs(new - old) < 3))
    one.set(12)
    assert near.state == Ok(10)
    one.set(14)
    assert near.state == Ok(14)


def test_pairs_are_typed_and_together(sheet: Sheet) -> None:
    one, two = sheet.cell(1), sheet.cell("b")
    assert sheet.build(lambda: one.pair(two)).state == Ok((1, "b"))


def test_a_collection_grows_and_shrinks_by_key(sheet: Sheet) -> None:
    names = sheet.cell({"a": 1, "b": 2})

    def branch(key: str, value: Term[int]) -> Term[str]:
        sheet.calls.append(key)
        return value.map(lambda number: f"{key}{number}")

    joined = sheet.build(lambda: names.each(branch))
    assert joined.state == Ok({"a": "a1", "b": "b2"})
    size = len(sheet.graph.terms)
    names.set({"b": 3, "c": 4})
    assert joined.state == Ok({"b": "b3", "c": "c4"})
    assert len(sheet.graph.terms) == size
    assert sheet.calls == ["a", "b", "c"]
    names.set({})
    assert joined.state == Ok({})
    assert not any(
        isinstance(term, Cell) and term is not names for term in sheet.graph.terms.values()
    )


def test_a_branch_that_uses_outer_terms_leaves_them_alone(sheet: Sheet) -> None:
    names, outer = sheet.cell({"a": 1}), sheet.cell(10)
    joined = sheet.build(lambda: names.each(lambda _, value: value.pair(outer).map(sum)))
    outer.set(20)
    assert joined.state == Ok({"a": 21})
    names.set({})
    outer.set(30)
    assert joined.state == Ok({})
    assert not outer.dependents


def test_collections_in_collections(sheet: Sheet) -> None:
    nested = sheet.cell({"x": {"a": 1}, "y": {}})
    total = sheet.build(
        lambda: nested.each(
            lambda _, inner: inner.each(lambda _, value: value.map(lambda n: n + 1))
        ).map(lambda found: sum(sum(inner.values()) for inner in found.values()))
    )
    assert total.state == Ok(2)
    nested.set({"x": {"a": 5, "b": 5}, "y": {"c": 1}})
    assert total.state == Ok(14)
    nested.set({"y": {"c": 1}})
    assert total.state == Ok(2)


@pytest.mark.parametrize(
    "branch", [lambda _key, _value: 1, lambda _key, _value: 1 / 0, lambda _key, value: value + 1]
)
def test_a_branch_that_cannot_be_built_fails_alone(
    sheet: Sheet, branch: Callable[[Any, Term[Any]], Any]
) -> None:
    names = sheet.cell({"a": 1})
    joined = sheet.build(lambda: names.each(branch))
    assert isinstance(joined.state, Failed)
    names.set({})
    assert joined.state == Ok({})


@pytest.mark.parametrize(
    "mistake",
    [
        lambda term: 1 if term else 2,
        lambda term: term == "main",
        lambda term: [*term],
        lambda term: f"v{term}",
        str,
        lambda term: term + 1,
        lambda term: term[0],
        lambda term: term < 3,
        len,
        lambda term: term(),
    ],
)
def test_using_a_term_as_its_value_is_refused_with_advice(
    sheet: Sheet, mistake: Callable[[Term[Any]], object]
) -> None:
    term = sheet.cell(1)
    with pytest.raises(TypeError, match=r"not known yet.*(use|write)"):
        mistake(term)


def test_an_attribute_of_the_value_is_refused_with_advice(sheet: Sheet) -> None:
    with pytest.raises(AttributeError, match=r"map\(lambda value: value.digest\)"):
        sheet.cell(1).digest  # noqa: B018


def test_terms_outside_of_a_pipeline_are_refused(sheet: Sheet) -> None:
    with pytest.raises(TypeError, match="under @pipeline"):
        sheet.cell(1).map(str)


def test_terms_of_another_pipeline_are_refused(sheet: Sheet) -> None:
    other = Sheet().cell(1)
    with sheet.graph.building(), pytest.raises(TypeError, match="another pipeline"):
        gather([sheet.cell(1), other])


def test_a_pipeline_has_its_functions_name_and_text() -> None:
    @pipeline
    def my_site() -> None:
        """Deploy my site."""

    assert my_site.name == "my-site"
    assert my_site.__doc__ == "Deploy my site."


def test_any_graph_agrees_with_plain_functions() -> None:
    """Random graphs under random changes have the values that computing all anew gives."""
    for seed in range(40):
        draw = random.Random(seed)
        sheet = Sheet()
        cells = [sheet.cell(draw.randrange(4)) for _ in range(5)]
        recipes: list[tuple[str, list[int], int]] = []
        terms: list[Term[Any]] = list(cells)
        with sheet.graph.building():
            for _ in range(60):
                kind = draw.choice(["sum", "mod", "each", "gate"])
                chosen = [draw.randrange(len(terms)) for _ in range(draw.randint(1, 3))]
                recipes.append((kind, chosen, draw.randint(2, 5)))
                terms.append(_term(recipes[-1], terms))
        for _ in range(30):
            cell = draw.choice(cells)
            cell.set(draw.choice([draw.randrange(6), Failed(ValueError("x"))]))
            expected = _plain([one.now for one in cells], recipes)
            got = [term.state.value if isinstance(term.state, Ok) else None for term in terms]
            assert got == expected


def _term(recipe: tuple[str, list[int], int], terms: list[Term[Any]]) -> Term[Any]:
    kind, chosen, number = recipe
    inputs = [terms[index] for index in chosen]
    if kind == "gate":
        return inputs[0].gate(inputs[-1])
    total = gather(inputs).map(sum)
    if kind == "mod":
        return total.map(lambda value: value % number)
    if kind == "each":
        keyed: Term[Mapping[int, int]] = total.map(
            lambda value: dict.fromkeys(range(value % number), value)
        )
        joined = keyed.each(lambda key, value: value.pair(inputs[0]).map(lambda p: key + sum(p)))
        return joined.map(lambda found: sum(found.values()))
    return total


def _plain(cells: list[State[Any]], recipes: list[tuple[str, list[int], int]]) -> list[int | None]:
    values: list[int | None] = [cell.value if isinstance(cell, Ok) else None for cell in cells]
    for kind, chosen, number in recipes:
        inputs = [values[index] for index in chosen]
        known = [value for value in inputs if value is not None]
        if kind == "gate":
            last = inputs[-1]
            values.append(inputs[0] if last is not None else None)
        elif len(known) < len(inputs):
            values.append(None)
        elif kind == "mod":
            values.append(sum(known) % number)
        elif kind == "each":
            total = sum(known)
            values.append(sum(key + total + known[0] for key in range(total % number)))
        else:
            values.append(sum(known))
    return values
