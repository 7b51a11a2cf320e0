"""What users write as arguments of steps, read: sizes, ports, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from mizzen.engine.step import failed, wrong
from mizzen.engine.terms import Term, caller
from mizzen.model.errors import Failure
from mizzen.model.machine import Port
from mizzen.model.network import Transport

ItemT = TypeVar("ItemT")

_SIZE = re.compile(r"(\d{1,7})\s*([MG])(?:i?B)?")


def mebibytes(size: str | int) -> int:
    """Return the MiB of "256M" or "1G"; a number is MiB already. Raises ValueError."""
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(str(size).strip())
    if not found:
        raise ValueError(f"{size!r} is no size such as 256M or 1G")
    return int(found[1]) * (1024 if found[2] == "G" else 1)


def guest_port(port: str | int) -> tuple[int, Transport]:
    """Read 80, "80" or "53/udp". Raises ValueError."""
    found = re.fullmatch(r"(\d{1,5})(?:/(tcp|udp))?", str(port), re.ASCII)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise ValueError(f"{port!r} is no port such as 80 or '53/udp'")
    return int(found[1]), Transport(found[2] or "tcp")


def published(port: str | int) -> Port:
    """Return a guest's port that user networking leads to from any free one of the host."""
    number, transport = guest_port(port)
    return Port(0, number, transport)


def several(values: Sequence[ItemT]) -> tuple[ItemT, ...]:
    """Return the items of a list. Raises TypeError for a text, whose items are letters."""
    if isinstance(values, str):
        raise TypeError(f"a list is wanted: write [{values!r}]")
    return tuple(values)


def unfit(name: str, **inputs: object) -> Term[Any] | None:
    """Return a failed step for inputs that are no terms, None if all are. name: the step's."""
    for field, value in inputs.items():
        if not isinstance(value, Term):
            kind = type(value).__name__
            error = TypeError(f"what another step returns is wanted, not a {kind}")
            return failed(name, wrong(name, field, error))
    return None


def told(what: str, error: Exception) -> Failure:
    """Return an error of an argument as what the user is told, with the line to mend."""
    mend = f"mend {caller()}"
    if isinstance(error, Failure):
        return Failure(error.what, error.why, "; ".join(filter(None, (error.fix, mend))))
    return Failure(f"cannot do {what}", str(error), mend)
