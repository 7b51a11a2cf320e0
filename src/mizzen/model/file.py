"""A file that was made, by its content."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class File:
    """A file that stays as it is.

    digest: sha256 of its content, in hex; files of one are equal, wherever they lie.
    size: in bytes.
    """

    path: Path = field(compare=False)
    digest: str
    size: int
