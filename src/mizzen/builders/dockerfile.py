"""The little that is read of a Dockerfile: which images it starts from, and where its steps are.

Source: the Dockerfile reference, "FROM", "ARG" and "COPY --from".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NAMES = ("Containerfile", "Dockerfile")
"""In the order in which buildah looks for them."""

FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
COPY = re.compile(r"(?:COPY|ADD)\s+(?:--\S+\s+)*--from=(\S+)", re.IGNORECASE)
MOUNT = re.compile(r"\s--mount=\S*\bfrom=([^,\s]+)")
ARGUMENT = re.compile(r"ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE)
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")
ESCAPE = re.compile(r"#\s*escape\s*=\s*`\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. line: its first, from 1. text: its lines joined, without comments."""

    line: int
    text: str

    @property
    def word(self) -> str:
        """What it begins with, in capitals, such as RUN."""
        return self.text.split(maxsplit=1)[0].upper()


def find(folder: Path) -> Path | None:
    """Return a folder's Dockerfile, None if it has none."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def instructions(text: str) -> Iterator[Instruction]:
    """Yield a Dockerfile's instructions."""
    lines = text.splitlines()
    escape = "`" if lines and ESCAPE.fullmatch(lines[0]) else "\\"
    first = 0
    joined: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue  # also in the middle of an instruction
        first = first if joined else number
        bare = line.rstrip()
        joined.append(bare.removesuffix(escape).strip())
        if not bare.endswith(escape):
            yield Instruction(first, " ".join(joined))
            joined = []
    if any(joined):
        yield Instruction(first, " ".join(joined))


def located(text: str, stage: int, step: int) -> Instruction | None:
    """Return a step of a stage, as buildah counts them: both from 1, FROM is a stage's first."""
    stages: list[list[Instruction]] = []
    for instruction in instructions(text):
        if instruction.word == "FROM":
            stages.append([])
        if stages:  # ARG may stand before the first FROM, and is not counted
            stages[-1].append(instruction)
    if 1 <= stage <= len(stages) and 1 <= step <= len(stages[stage - 1]):
        return stages[stage - 1][step - 1]
    return None


def bases(text: str, arguments: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the images that a Dockerfile builds on, in its order, each once.

    arguments: build arguments, which take the place of the defaults that ARG gives before the
    first FROM. Names of earlier stages, ``scratch`` and names with other variables are left out.
    """
    given = dict(arguments or {})
    values: dict[str, str] = {}
    stages = {"scratch"}
    found: dict[str, None] = {}
    number = 0
    for instruction in instructions(text):
        start = FROM.match(instruction.text)
        if start:
            names = [_expanded(start[1], values)]
        elif not number and (argument := ARGUMENT.match(instruction.text)):
            default = (argument[2] or "").strip("\"'")
            values[argument[1]] = given.get(argument[1], _expanded(default, values))
            continue
        else:
            copied = COPY.match(instruction.text)
            names = [copied[1]] if copied else MOUNT.findall(instruction.text)
        for name in names:
            if name and "$" not in name and name.lower() not in stages:
                found[name] = None
        if start:
            stages |= {(start[2] or "").lower(), str(number)}
            number += 1
    return tuple(found)


def _expanded(word: str, values: Mapping[str, str]) -> str:
    """Return a word with the variables replaced that have a value."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1] or found[2]) or found[3] or found[0]

    return VARIABLE.sub(value, word)
