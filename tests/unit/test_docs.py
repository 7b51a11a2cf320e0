"""What the documentation names exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import cyclopts
import pytest

from mizzen.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md"]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CODE = re.compile(r"`(?:sudo )?(?:\./run )?(mizzen [^`]+)`")
BLOCK_LINE = re.compile(r"^(?:\$ )?(?:sudo )?(?:\./run )?(mizzen .*)$", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])-{1,2}[a-z][a-z-]*")
VALUES = {"CMD": "true", "CMD...": "true", "ID": "1", "N": "1", "pid:N": "pid:1"}
"""What stands for the words that a reader is meant to replace, where any word would not do."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands(page: Path) -> list[str]:
    """Every mizzen command that a page shows, without what explains it in the same line."""
    text = page.read_text()
    shown = [" ".join(found[1].split()) for found in CODE.finditer(text)]
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        joined = re.sub(r"\n +(?=\[)", " ", block)  # options that stand in lines of their own
        shown += [re.split(r"\s{3,}| #", found[1])[0] for found in BLOCK_LINE.finditer(joined)]
    return shown


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, section = link.partition("#")
        there = page.parent / place if place else page
        assert there.exists(), link
        if section:
            assert section in map(anchor, HEADING.findall(there.read_text())), link


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_commands_exist(page: Path) -> None:
    for command in commands(page):
        if command == "mizzen ...":
            continue
        parse(command)


def parse(shown: str) -> None:
    """Fail unless the command line takes what is shown; [...] is optional, | parts choices."""
    bare = re.sub(r"\[[^\]]*\]", "", shown)
    words = [VALUES.get(word, word) for word in shlex.split(bare)[1:]]
    chain, found, rest = app.parse_commands(words)
    assert chain, f"{shown}: no such command"
    if found[-1].default_command is None:  # a group of commands, named as such
        assert not rest, f"{shown}: no such command"
        return
    known = {
        option for argument in found[-1].assemble_argument_collection() for option in argument.names
    }
    for option in OPTION.findall(shown.partition(" -- ")[0]):
        assert option in known, f"{shown}: no option {option}"
    if rest or len(words) > len(chain):
        try:
            app.parse_args(words, print_error=False, exit_on_error=False)
        except cyclopts.CycloptsError as error:
            pytest.fail(f"{shown}: {error}", pytrace=False)


def test_every_command_is_in_the_architecture_page() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for group in app:
        if group.startswith("-"):
            continue
        below = [one for one in app[group] if not one.startswith("-")]
        for command in [f"{group} {one}" for one in below] or [group]:
            assert re.search(rf"^mizzen {command}\b", text, re.MULTILINE), command


def test_the_layers_are_those_that_are_checked() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    shown = re.search(r"^```layers\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [one["layers"] for one in contracts if one["type"] == "layers"]
    assert shown[1].splitlines() == layers
