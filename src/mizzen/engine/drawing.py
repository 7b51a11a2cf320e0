"""What a graph looks like: a box for each step, its state, and what follows from what.

A term that only passes values on is no box; what it connects is connected directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from .graph import Graph
from .states import Blocked, Failed, Ok, Running, State, Waiting, name
from .step import Step
from .terms import Term

VALUE_MAX = 100
"""Characters of a value that are shown."""

COLOURS: Mapping[str, str] = {
    "ok": "#2da44e",
    "running": "#bf8700",
    "waiting": "#8250df",
    "failed": "#cf222e",
    "blocked": "#8c959f",
}
"""Of the states, in pictures."""


@dataclass(frozen=True, slots=True)
class Box:
    """A step, or a value that has a label of its own.

    id: counts a pipeline's terms. state: one word; see ``states.name``. detail: with what it
    runs, why it failed, what it follows from, or its value; may be "". where: "file:line".
    job: the one that its state tells of, 0 if none. operation: its id, "" if there is none.
    """

    id: int
    label: str
    state: str
    detail: str
    where: str
    job: int
    operation: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A pipeline as it is at one instant. edges: pairs of boxes' ids, the source first."""

    name: str
    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]


def draw(graph: Graph) -> Drawing:
    """Return what a graph looks like now; before anything ran too."""
    boxes = tuple(box(term) for term in graph.terms.values() if term.drawn)
    return Drawing(graph.name, boxes, tuple(_edges(graph)))


def box(term: Term[Any]) -> Box:
    """Return what a term looks like now."""
    state = present(term)
    return Box(
        id=term.number,
        label=_line(term.label),
        state=name(state),
        detail=detail(term),
        where=str(term.where),
        job=getattr(state, "job", 0),
        operation=term.operation.id if isinstance(term, Step) else "",
    )


def present(term: Term[Any]) -> State[Any]:
    """Return what a term's state is shown as: what goes on, even if the value before stays."""
    behind = term.behind if isinstance(term, Step) else None
    return term.state if behind is None else behind


def detail(term: Term[Any]) -> str:
    """Return what there is to say of a term's state beside its name, in one line."""
    words = _words(term, present(term))
    stays = shown(term.state.value) if isinstance(term.state, Ok) else ""
    if present(term) is term.state or not stays:
        return words
    return f"{words}, still {stays}" if words else f"still {stays}"


def dot(drawing: Drawing) -> str:
    """Return a drawing in Graphviz's language."""
    lines = [
        f"digraph {_quoted(drawing.name)} {{",
        "  rankdir=LR",
        '  node [shape=box style="rounded,filled" fontname="sans-serif" fontcolor=white]',
    ]
    for one in drawing.boxes:
        label = _quoted(f"{one.label}\n{one.state}")
        tip = _quoted(f"{one.where} {one.detail}".strip())
        colour = COLOURS[one.state]
        lines.append(f'  n{one.id} [label={label} fillcolor="{colour}" tooltip={tip}]')
    lines += [f"  n{source} -> n{target}" for source, target in drawing.edges]
    return "\n".join([*lines, "}", ""])


def told(error: Exception) -> str:
    """Return an error in one line, with its kind where its words alone would say little."""
    words = _line(str(error))
    kind = type(error).__name__
    plain = type(error).__module__ == "builtins"
    return f"{kind}: {words}".removesuffix(": ") if plain else words or kind


def shown(value: object) -> str:
    """Return a value that has words of its own, cut short; "" for any other."""
    own = isinstance(value, int | float | PurePath) or type(value).__str__ is not object.__str__
    if value is None or not own:
        return ""
    words = _line(str(value))
    return words if len(words) <= VALUE_MAX else words[: VALUE_MAX - 1] + "…"


def _words(term: Term[Any], state: State[Any]) -> str:
    match state:
        case Ok(value):
            return shown(value)
        case Running(what):
            return "" if what == term.label else _line(what)
        case Waiting(job):
            return f"mizzen jobs start {job}"
        case Failed(error):
            return told(error)
        case Blocked():
            return _held(term, state)


def _held(term: Term[Any], state: Blocked) -> str:
    if state.on is term:
        return ""
    other = state.on.label or f"a value of {state.on.where}"
    if isinstance(state.state, Failed) and not state.on.drawn:
        return f"on {other}: {told(state.state.error)}"
    return f"on {other}, which is False" if isinstance(state.state, Ok) else f"on {other}"


def _edges(graph: Graph) -> Iterator[tuple[int, int]]:
    passed: dict[int, dict[int, None]] = {}  # what terms follow from that are no boxes
    for term in sorted(graph.terms.values(), key=lambda term: (term.height, term.number)):
        sources: dict[int, None] = {}
        for source in term.inputs:
            sources |= {source.number: None} if source.drawn else passed[source.number]
        if term.drawn:
            yield from ((source, term.number) for source in sources)
        else:
            passed[term.number] = sources


def _line(text: str) -> str:
    """Return a text in one line, without what would move a terminal's cursor or break XML."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in line)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
