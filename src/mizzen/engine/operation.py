"""Operations: what a step has done, named by a digest of its inputs.

An operation is a struct whose fields are its inputs. ``Build`` makes a value of them, which is
remembered; ``Publication`` makes something in the world be what they say; ``Observation`` tells of
a part of the world as it changes.
"""

from __future__ import annotations

import functools
import hashlib
import typing
from collections.abc import AsyncGenerator
from pathlib import Path, PurePath
from typing import ClassVar, Generic, TypeVar

import msgspec

from mizzen.model.errors import Failure

from .job import Job
from .policy import Policy

ValueT = TypeVar("ValueT")


class TemporaryFailure(Failure):
    """A failure that may not come again, so that the attempt is worth repeating."""


class Operation(msgspec.Struct, Generic[ValueT], frozen=True, kw_only=True):
    """What all operations have.

    id: a few words that name the operation for ever, such as "docker build": results are
        remembered under it. version: a higher one forgets them.
    noun: what its results are, in the word of ``up --plan``: "image", "machine"; "" is not told.
    repeatable: whether it may be run again when it was killed at an unknown point.
    Fields and the value must be what msgspec can encode, or paths.
    """

    id: ClassVar[str]
    version: ClassVar[int] = 1
    noun: ClassVar[str] = ""
    policy: ClassVar[Policy] = Policy()
    repeatable: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.id

    def digest(self) -> str:
        """Return what names these inputs: SHA-256, in hex."""
        fields = msgspec.json.encode(self, enc_hook=encode, order="deterministic")
        head = f"{self.id} {self.version}\n".encode()
        return hashlib.sha256(head + fields).hexdigest()

    async def holds(self, value: ValueT, job: Job) -> bool:  # noqa: ARG002 - others look
        """Whether a value that was remembered is still true of the world.

        Asked once when the engine starts; job has no number then and logs nothing.
        """
        return True


class Build(Operation[ValueT], frozen=True, kw_only=True):
    """Makes a value of its inputs; equal inputs are built once."""

    async def run(self, job: Job) -> ValueT:
        """Make the value. Raises Failure, or TemporaryFailure to be tried again."""
        raise NotImplementedError


class Publication(Operation[ValueT], frozen=True, kw_only=True):
    """Sets what a key stands for; the last one that was set holds."""

    @property
    def key(self) -> str:
        """Return what is set, such as a service's name; unique among those of its id."""
        raise NotImplementedError

    async def run(self, job: Job) -> ValueT:
        """Set it; also where a killed run has come half-way. Raises as ``Build.run`` does."""
        raise NotImplementedError


class Observation(Operation[ValueT], frozen=True, kw_only=True):
    """Tells of a part of the world for as long as somebody wants to know."""

    def observe(self, job: Job) -> AsyncGenerator[ValueT, None]:
        """Yield what is so now, and again after each change. Raises as ``Build.run`` does."""
        raise NotImplementedError


def encode(value: object) -> object:
    """Make of a value what msgspec can encode."""
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"a step cannot take a {type(value).__name__}")


def decode(kind: type, value: object) -> object:
    """Make of a decoded value what it was."""
    if issubclass(kind, PurePath):
        return Path(str(value))
    raise NotImplementedError(f"a step cannot return a {kind.__name__}")


@functools.cache
def value_type(operation: type[Operation[ValueT]]) -> type[ValueT]:
    """Return the type of an operation's values, from its method's annotation."""
    method = getattr(operation, "observe", None) or operation.run  # type: ignore[attr-defined]
    kind = typing.get_type_hints(method)["return"]
    if issubclass(operation, Observation):
        kind = typing.get_args(kind)[0]
    return typing.cast("type[ValueT]", kind)
