"""Few rows in which every two values of different parameters meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

Choice = tuple[str, object]


def rows(parameters: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    """Return rows, the same ones each time, that hold every pair of values at least once.

    Greedy: a row begins with a pair that none has yet, and takes for every other parameter the
    value that brings the most pairs anew; among equals the one that was used least.
    """
    missing = {
        frozenset(((one, a), (other, b))): None
        for one, other in combinations(parameters, 2)
        for a, b in product(parameters[one], parameters[other])
    }
    used: dict[Choice, int] = {}
    made: list[dict[str, object]] = []
    while missing:
        row: dict[str, object] = dict(next(iter(missing)))
        for name, values in parameters.items():
            if name in row:
                continue
            chosen = list(row.items())

            def worth(value: object, name: str = name, chosen: Sequence[Choice] = chosen):
                new = sum(frozenset(((name, value), choice)) in missing for choice in chosen)
                return new, -used.get((name, value), 0)

            row[name] = max(values, key=worth)
        for pair in combinations(row.items(), 2):
            missing.pop(frozenset(pair), None)
        for choice in row.items():
            used[choice] = used.get(choice, 0) + 1
        made.append({name: row[name] for name in parameters})
    return made
