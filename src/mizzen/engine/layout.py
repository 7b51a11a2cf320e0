"""Where the boxes of a drawing lie: Graphviz is asked once for each structure, not each picture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mizzen.host.process import run
from mizzen.model.errors import Failure

from .drawing import Box, Drawing

BOXES_MAX = 2000
"""Boxes of a picture. Graphviz takes time that grows with the square of it."""

SECONDS = 60
"""That Graphviz may take."""

HEIGHT = 48
"""Of a box, in points."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a box lies: its upper left corner and its width, in points."""

    left: float
    top: float
    width: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies, in points from the upper left corner.

    boxes: by id. curves: an edge each, points of cubic Bézier curves.
    """

    width: float
    height: float
    boxes: dict[int, Placed]
    curves: tuple[tuple[Point, ...], ...]


class Layouts:
    """The last layout of each pipeline."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, Layout]] = {}
        self._turn = asyncio.Lock()

    async def find(self, drawing: Drawing) -> Layout:
        """Return where a drawing's boxes lie. Raises Failure."""
        structure = [(box.id, box.label) for box in drawing.boxes], drawing.edges
        async with self._turn:
            before = self._known.get(drawing.name)
            if before is None or before[0] != structure:
                before = self._known[drawing.name] = structure, await lay_out(drawing)
        return before[1]


async def lay_out(drawing: Drawing) -> Layout:
    """Return where a drawing's boxes should lie. Raises Failure."""
    what = f"cannot draw {drawing.name}"
    if len(drawing.boxes) > BOXES_MAX:
        why = f"it has {len(drawing.boxes)} steps, and a picture {BOXES_MAX} at most"
        raise Failure(what, why, "ask for .json or .dot")
    try:
        async with asyncio.timeout(SECONDS):
            done = await run("dot", "-Tplain", what=what, stdin=_asked(drawing).encode())
    except TimeoutError as error:
        why = f"Graphviz was not done after {SECONDS} s"
        raise Failure(what, why, "ask for .json or .dot") from error
    return _parsed(done.text)


def width(box: Box) -> int:
    """Return a box's width in points, from its label's length."""
    return min(max(190, 40 + 8 * len(box.label)), 360)


def _asked(drawing: Drawing) -> str:
    nodes = [f"n{box.id} [width={width(box) / 72:.3f}]" for box in drawing.boxes]
    edges = [f"n{source} -> n{target}" for source, target in drawing.edges]
    head = (
        "digraph {",
        "rankdir=LR nodesep=0.35 ranksep=0.7",
        f'node [shape=box fixedsize=true height={HEIGHT / 72:.3f} label=""]',
    )
    return "\n".join([*head, *nodes, *edges, "}"])


def _parsed(text: str) -> Layout:
    """Read Graphviz's format "plain": inches from the lower left corner."""
    total: Point = 0.0, 0.0
    boxes: dict[int, Placed] = {}
    curves = []
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == "graph":
            total = 72 * float(words[1]), 72 * float(words[2])
        elif kind == "node":
            x, y, wide, high = (72 * float(word) for word in words[1:5])
            boxes[int(words[0][1:])] = Placed(x - wide / 2, total[1] - y - high / 2, wide)
        elif kind == "edge":
            curves.append(_curve(words[3 : 3 + 2 * int(words[2])], total[1]))
    return Layout(*total, boxes, tuple(curves))


def _curve(words: Sequence[str], height: float) -> tuple[Point, ...]:
    numbers = [72 * float(word) for word in words]
    return tuple((x, height - y) for x, y in zip(numbers[::2], numbers[1::2], strict=True))
