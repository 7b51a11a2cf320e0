"""What is known of a term at present."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from .terms import Term

ValueT_co = TypeVar("ValueT_co", covariant=True)


class Ok(Generic[ValueT_co]):
    """The value is known. It never changes; a frozen dataclass takes thrice as long to make."""

    __slots__ = ("value",)
    __match_args__ = ("value",)

    def __init__(self, value: ValueT_co) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ok) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Ok({self.value!r})"


@dataclass(frozen=True, slots=True)
class Running:
    """Something is being done for it. what: in a few words. job: its number, 0 if it is none."""

    what: str
    job: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job waits for somebody to confirm it."""

    job: int


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """It cannot be known. error: why. job: what found that out, 0 if it was none."""

    error: Exception
    job: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Blocked:
    """It follows from a term that is not known.

    on: that term, however far up. state: what is known of that; None before anything was tried.
    """

    on: Term[object]
    state: Cause | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocked) and other.on is self.on and other.state == self.state

    def __hash__(self) -> int:
        return hash((id(self.on), self.state))


Cause: TypeAlias = Running | Waiting | Failed | Ok[object]
"""Ok is the cause where a gate is shut."""

State: TypeAlias = Ok[ValueT_co] | Running | Waiting | Failed | Blocked


def cause(state: State[object]) -> Cause | None:
    """Return the state of the term that a state goes back to."""
    return state.state if isinstance(state, Blocked) else state


def name(state: State[object]) -> str:
    """Return a state's one word, as it is shown and counted."""
    return {
        Ok: "ok",
        Running: "running",
        Waiting: "waiting",
        Failed: "failed",
        Blocked: "blocked",
    }[type(state)]
