"""What is remembered of an operation, as the engine and a plan both judge it."""

from __future__ import annotations

from typing import Any

import msgspec

from mizzen.model.errors import Failure
from mizzen.model.job import Outcome

from .operation import Operation, decode, value_type
from .states import Failed, Ok
from .step import Step


def recalled(
    known: Outcome, operation: Operation[Any], digest: str, *, expired: bool
) -> Ok[Any] | Failed | None:
    """Return what an operation of these inputs came to; None if it is to be done.

    Whether the world is still so is for ``Operation.holds`` to tell.
    """
    if known.failed_digest == digest and known.error is not None:
        return Failed(known.error, known.job)
    if known.digest != digest or not known.sure or expired:
        return None
    try:
        kind = value_type(type(operation))
        return Ok(msgspec.json.decode(known.value or b"", type=kind, dec_hook=decode))
    except msgspec.MsgspecError:
        return None  # another version of Mizzen wrote it


def clash(step: Step[Any], owner: Step[Any]) -> Failed:
    """Return what is told of a step that sets a key otherwise than the step that has it."""
    why = f"{owner.where} says otherwise of the same name"
    fix = f"choose another name at {step.where}"
    return Failed(Failure(f"cannot do {step.label}", why, fix))
