"""What ``mizzen up`` prints while it runs: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol, Self

from rich import box
from rich import live as rich_live
from rich.table import Table
from rich.text import Text

from mizzen.engine import states
from mizzen.engine.drawing import COLOURS, detail, present
from mizzen.engine.drawing import box as seen
from mizzen.engine.graph import Graph
from mizzen.engine.states import Blocked, Running
from mizzen.engine.terms import Term

from . import output

STYLES = {
    "ok": "green",
    "running": "yellow",
    "waiting": "magenta",
    "failed": "bold red",
    "blocked": "dim",
}

FIRST = {state: rank for rank, state in enumerate(("failed", "waiting", "running", "ok"))}
"""Which steps are shown where there is no room for all."""

DELAY = 0.1
"""Seconds that a change waits for others to be shown with."""


class Shown(Protocol):
    """Shows steps while the block lasts."""

    def __enter__(self) -> Self:
        """Begin; an event loop runs."""
        ...

    def __exit__(self, *_: object) -> None:
        """End."""
        ...

    def change(self, term: Term[Any]) -> None:
        """Show that a term has another state."""
        ...


class Lines:
    """Prints a line for each state that tells something new."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def change(self, term: Term[Any]) -> None:
        """Print a step's state; not that it waits for others, or is about to begin."""
        state = present(term)
        begins = isinstance(state, Running) and not state.job
        if not term.drawn or isinstance(state, Blocked) or begins:
            return
        line = _words(term)
        step = term.graph.name, term.label
        if self._told.get(step) == line.plain:
            return
        self._told[step] = line.plain
        head = Text(output.clock(time.time()), style="dim")
        head.append(f"  {term.graph.name}  ", style="not dim cyan")
        output.console.print(head.append_text(line), soft_wrap=True)


class JsonLines(Lines):
    """Prints each change of a step as a line of JSON."""

    def change(self, term: Term[Any]) -> None:
        """Print a step's state."""
        if term.drawn:
            head = {"at": time.time(), "pipeline": term.graph.name}
            output.as_json_line(head | asdict(seen(term)))


class Live:
    """Keeps a table of the steps on a terminal."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._graphs = graphs
        self._since: dict[Term[Any], tuple[str, float]] = {}
        self._live = rich_live.Live(console=output.console, auto_refresh=False)
        self._ticking: asyncio.Task[None] | None = None
        self._drawing: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._ticking, self._drawing):
            if one is not None:
                one.cancel()
        self._draw()
        self._live.stop()

    def change(self, term: Term[Any]) -> None:
        """Show a step's state soon."""
        if not term.drawn:
            return
        word = states.name(present(term))
        if self._since.get(term, ("", 0.0))[0] != word:
            self._since[term] = word, time.monotonic()
        if self._drawing is None:
            self._drawing = asyncio.get_running_loop().call_later(DELAY, self._draw)

    async def _tick(self) -> None:
        """Let the seconds pass of what runs."""
        while True:
            await asyncio.sleep(1)
            self._draw()

    def _draw(self) -> None:
        self._drawing = None
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        drawn = Table(
            "PIPELINE", "STEP", "STATE", "", "FOR", box=box.SIMPLE_HEAD, pad_edge=False,
            show_edge=False,
        )  # fmt: skip
        terms = [term for graph in self._graphs for term in graph.terms.values() if term.drawn]
        self._since = {term: self._since[term] for term in terms if term in self._since}
        shown = set(sorted(terms, key=_rank)[: max(output.console.height - 5, 5)])
        for term in terms:
            if term in shown:
                drawn.add_row(*self._cells(term))
        if len(shown) < len(terms):
            rest = Counter(states.name(present(term)) for term in terms if term not in shown)
            told = ", ".join(f"{rest[state]} {state}" for state in COLOURS if rest[state])
            drawn.add_row("", Text(f"and {told}", "dim"), "", "", "")
        return drawn

    def _cells(self, term: Term[Any]) -> Iterator[Text]:
        word = states.name(present(term))
        since = self._since.get(term)
        lasts = f"{time.monotonic() - since[1]:.0f} s" if since and word == "running" else ""
        yield Text(term.graph.name, "cyan")
        yield Text(term.label, "bold")
        yield Text(word, STYLES[word])
        yield Text(detail(term), no_wrap=word != "failed", overflow="ellipsis")
        yield Text(lasts, "dim")


def _rank(term: Term[Any]) -> int:
    return FIRST.get(states.name(present(term)), len(FIRST))


def _words(term: Term[Any]) -> Text:
    word = states.name(present(term))
    line = Text(term.label, "bold").append(f"  {word}", f"not bold {STYLES[word]}")
    job = getattr(present(term), "job", 0)
    line.append(f"  job {job}" if job and word != "waiting" else "", "not bold dim")
    said = detail(term)
    return line.append(f"  {said}" if said else "", "not bold")
