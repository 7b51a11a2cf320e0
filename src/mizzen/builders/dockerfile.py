"""The little that is read of a Dockerfile: which images it starts from, and where its steps are.

Source: the Dockerfile reference, "FROM", "ARG" and "COPY --from".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("Containerfile", "Dockerfile")
"""In the order in which buildah looks for them."""

FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
COPY = re.compile(r"(?:COPY|ADD)\s+(?:--\S+\s+)*--from=(\S+)", re.IGNORECASE)
MOUNT = re.compile(r"\s--mount=\S*\bfrom=([^,\s]+)")
ARGUMENT = re.compile(r"ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE)
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")
HERE = re.compile(r"(?:^|\s)\d*<<-?[\"']?([A-Za-z_]\w*)")
ESCAPE = re.compile(r"#\s*escape\s*=\s*`\s*", re.IGNORECASE)

MARK = "LABEL io.mizzen.argument="
"""The beginning of a line that ``marked`` inserts."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    line, last: its first and last line, from 1. text: its lines joined, without comments.
    """

    line: int
    last: int
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
    lines = _lines(text)
    escape = "`" if ESCAPE.fullmatch(lines[0]) else "\\"
    first = 0
    joined: list[str] = []
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        if not line.strip() or line.lstrip().startswith("#"):
            continue  # also in the middle of an instruction
        first = first if joined else number
        bare = line.rstrip()
        joined.append(bare.removesuffix(escape).strip())
        if not bare.endswith(escape):
            last = number + _here_document(" ".join(joined), lines[number:])
            yield Instruction(first, last, " ".join(joined))
            joined = []
            while number < last:
                number, _ = next(numbered)  # noqa: PLW2901 - what the instruction holds
    if any(joined):
        yield Instruction(first, len(lines), " ".join(joined))


def _here_document(text: str, following: Sequence[str]) -> int:
    """Return how many of the lines that follow an instruction are what it is given to read."""
    count = 0
    for ending in HERE.findall(text):
        ends = [line.lstrip("\t") for line in following[count:]]
        if ending not in ends:
            return 0  # it only looks like one
        count += ends.index(ending) + 1
    return count


def marked(text: str, arguments: Mapping[str, str]) -> str:
    """Return a Dockerfile that has a label with a digest of its value behind each ARG.

    buildah takes a layer as made already if it was made by the same words: of what is made after
    an ARG, only RUN counts the value (seen in 1.28). The label's words differ with it.
    """
    lines = _lines(text)
    before: dict[str, str | None] = {}  # what stands before the first FROM, and what it is given
    inserted = 0
    begun = False
    for instruction in instructions(text):
        begun = begun or instruction.word == "FROM"
        if instruction.word != "ARG":
            continue
        names = [word.partition("=")[0] for word in instruction.text.split()[1:]]
        given: dict[str, str | None] = {name: arguments.get(name) for name in names}
        if not begun:
            before |= given | {instruction.text: None}
            continue
        if before.keys() & given.keys():
            given |= before
        words = repr((instruction.text, sorted(given.items())))
        digest = hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()
        lines.insert(instruction.last + inserted, f"{MARK}{digest}")
        inserted += 1
    return "\n".join(lines)


def original(text: str, line: int) -> int:
    """Return where a line of a marked Dockerfile was before."""
    return line - sum(one.startswith(MARK) for one in _lines(text)[:line])


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


def _lines(text: str) -> list[str]:
    return re.split(r"\r?\n", text)


def _expanded(word: str, values: Mapping[str, str]) -> str:
    """Return a word with the variables replaced that have a value."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1] or found[2]) or found[3] or found[0]

    return VARIABLE.sub(value, word)
