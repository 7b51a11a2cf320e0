"""Lengths of time as users write them."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPELLED = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(text: str | float) -> float:
    """Return the seconds of "500ms", "30s", "1m", "2h" or "1d"; a number is seconds already.

    Raises ValueError for anything else, zero and less among it.
    """
    if isinstance(text, str):
        found = _SPELLED.fullmatch(text.strip())
        length = float(found[1]) * _UNITS[found[2]] if found else 0.0
    else:
        length = float(text) if isinstance(text, int | float) else 0.0
    if not 0 < length < float("inf"):
        raise ValueError(f"{text!r} is no length of time such as 30s, 1m or 2h")
    return length
