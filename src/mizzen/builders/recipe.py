"""A folder and a Dockerfile become an OCI image in buildah's storage.

What was made is remembered under a digest of all that went into it, so nothing is done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import resource
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mizzen.host import trees
from mizzen.host.cache import bench
from mizzen.host.files import explained, replacing
from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

from . import base, dockerfile, oci, roots
from .buildah import Buildah, explain, mark, retriable, sweep, uncrossed

FORMAT = "2"
"""Changes when equal inputs begin to give other images."""

STEP = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)/(\d+): (.*)")
AT_STEP = re.compile(r'building at STEP "(.*?)": (.*)')
CHATTER = re.compile(
    r"error|(\[\d+/\d+\] )?(STEP|COMMIT)\b|-->|time=|(sub)?process exited|exit status"
    r"|Getting image|Copying|Writing manifest|Storing signatures|Trying to pull",
    re.IGNORECASE,
)
"""Lines of a build that are buildah's own, not a step's."""

TAGS = "localhost/mizzen/functions/"
"""What names of images begin with that were built here."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HINT = "name a folder that has one"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is built of.

    title: how the user knows it. folder: what COPY and ADD see.
    dockerfile: a path in the folder; "" is its Dockerfile or Containerfile. text: a Dockerfile
        itself, in place of one in the folder.
    target: the stage whose image it is; "" is the last.
    arguments: what the Dockerfile's ARG get, by name.
    """

    title: str
    folder: Path
    dockerfile: str = ""
    text: str = ""
    target: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """The beginning of a failure's line."""
        return f"cannot build {self.title}"


@dataclass(frozen=True, slots=True)
class Read:
    """A recipe with its Dockerfile read. name: how failures name that."""

    recipe: Recipe
    text: str
    name: str

    @property
    def bases(self) -> tuple[str, ...]:
        """The images that it builds on."""
        return dockerfile.bases(self.text, self.recipe.arguments)


Log = Callable[[str], None]
"""Takes a line of what a build says."""


def unheard(line: str) -> None:
    """Take a line and show it to nobody."""


async def make(
    buildah: Buildah, recipe: Recipe, folders: Folders, report: Report, log: Log = unheard
) -> str:
    """Return the id of a recipe's image, built unless nothing has changed since it was.

    Raises Failure, naming the Dockerfile's line where it can be told; TemporaryFailure if a
    registry cannot be reached. Whoever cancels it ends all that the build has started.
    """
    with explained(recipe.what):
        read = _read(recipe)
    present = await oci.stored(buildah)
    for reference in read.bases:
        if (made := base.made_here(reference)) and f"{made}:latest" not in present.names:
            await base.ensure(buildah, folders, made, report)
            present = await oci.stored(buildah)
    with explained(recipe.what):
        key = await asyncio.to_thread(_key, read, present)
    record = folders.cache / "builds" / key
    if record.is_file():
        known = record.read_text().strip()
        if known in present.ids or roots.recall(folders, known):
            return known
    async with bench(record.parent, recipe.what) as place:
        identity = await _build(buildah, read, place, report, log)
        if await asyncio.to_thread(_key, read, present) == key:  # nobody has changed the folder
            with replacing(record) as temporary:
                temporary.write_text(identity)
    return identity


def forget(folders: Folders, identities: Collection[str]) -> None:
    """Forget for which recipes these images were built."""
    for record in (folders.cache / "builds").glob("[0-9a-f]*"):
        with contextlib.suppress(FileNotFoundError):
            if record.read_text().strip() in identities:
                record.unlink()


def inside(folder: Path, path: str, what: str) -> Path:
    """Return a path in a folder that the user named. Raises Failure if it leads out of it."""
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise Failure(what, f"{path} leads out of the folder that is built", "name what is in it")
    return found


def _read(recipe: Recipe) -> Read:
    for name in recipe.arguments:
        if not NAME.fullmatch(name):
            why = f"{name!r} is no name of a build argument"
            raise Failure(recipe.what, why, "write it as ARG has it in the Dockerfile")
    if recipe.text:
        return Read(recipe, recipe.text, "Dockerfile")
    if not recipe.dockerfile:
        found = dockerfile.find(recipe.folder)
        if found is None:
            raise Failure(recipe.what, "it holds no Dockerfile", HINT)
        return Read(recipe, _text(found), found.name)
    path = inside(recipe.folder, recipe.dockerfile, recipe.what)
    if not path.is_file():
        raise Failure(recipe.what, f"it holds no file {recipe.dockerfile}", HINT)
    return Read(recipe, _text(path), recipe.dockerfile)


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _key(read: Read, present: oci.Stored) -> str:
    """Return the digest of what goes into an image."""
    recipe = read.recipe
    parts = (
        FORMAT,
        trees.digest(recipe.folder),
        hashlib.sha256(_bytes(read.text)).hexdigest(),
        recipe.target,
        sorted(recipe.arguments.items()),
        [(name, present.names.get(oci.full_name(name), "")) for name in read.bases],
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


async def _build(buildah: Buildah, read: Read, place: Path, report: Report, log: Log) -> str:
    """Have buildah build an image and return its id.

    Equal inputs give equal images: all times are 0. place: for temporary files.
    """
    tag = f"{TAGS}{_tag(read.recipe.title)}"
    task = f"building {tag}"
    record, file = place / "id", place / "Dockerfile"
    text = dockerfile.marked(read.text, read.recipe.arguments)
    file.write_bytes(_bytes(text))
    report(Progress(task))

    def on_line(line: str) -> None:
        log(line)
        if step := STEP.match(line):
            report(Progress(task, int(step[2]) - 1, int(step[3])))

    await sweep(buildah)
    own = mark()
    # Steps write to stdout, which is followed line by line only if it is stderr.
    command = (
        "sh", "-c", 'exec "$@" >&2', "sh",
        *buildah.contained, "build",
        "--isolation", buildah.isolation, "--network", "host",
        "--timestamp", "0", "--layers", "--pull=missing", "--force-rm",
        *_limits(), "--add-host", f"{own}:127.0.0.1", *_choices(read.recipe),
        "--iidfile", str(record), "--file", str(file), str(read.recipe.folder),
    )  # fmt: skip

    async def attempt() -> None:
        with retriable():
            await run(
                *command,
                what=read.recipe.what,
                env={"TMPDIR": str(place)},
                on_line=on_line,
                explain=partial(explain_step, text, read.name),
            )

    try:
        await uncrossed(attempt)
    except BaseException:
        await sweep(buildah, own)
        raise
    finally:
        report(Progress(task, finished=True))
    identity = record.read_text().strip().removeprefix("sha256:")
    # Not by the build: it looks its own image up by the tag, and finds that of another build which
    # ends at the same time.
    await buildah("tag", identity, tag, what=read.recipe.what)
    return identity


def explain_step(text: str, name: str, output: str) -> tuple[str, str]:
    """Tell from a build's output why it failed, and what to do.

    text, name: of the Dockerfile, ``marked`` or not, whose line is told where it is known.
    """
    why, fix = explain(output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    begun = [index for index, line in enumerate(lines) if STEP.match(line)]
    if fix or not begun or any("COMMIT" in line.split()[:2] for line in lines[begun[-1] :]):
        return why, fix
    step = STEP.match(lines[begun[-1]])
    assert step is not None
    instruction = dockerfile.located(text, int(step[1] or 1), int(step[2]))
    failed = f"{step[4][:200]} failed"
    if instruction is not None and instruction.word == step[4].split(" ")[0].upper():
        failed = f"{name}:{dockerfile.original(text, instruction.line)}: {failed}"
    at = AT_STEP.match(why)
    reason = at[2] if at else why
    said = [line for line in lines[begun[-1] :] if not CHATTER.match(line)]
    words = f" ({said[-1][:200]})" if said else ""
    return f"{failed}: {reason}{words}", "mend that line"


def _choices(recipe: Recipe) -> Iterator[str]:
    if recipe.target:
        yield f"--target={recipe.target}"
    for name, value in sorted(recipe.arguments.items()):
        yield f"--build-arg={name}={value}"


def _limits() -> Iterator[str]:
    """Yield options that let steps have no higher limits than this process.

    buildah's own default is higher, which a root without CAP_SYS_RESOURCE cannot set.
    """
    # Some versions lower their own limit of processes to as many as there can be.
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    yield f"--ulimit=nofile={_at_most(resource.RLIMIT_NOFILE, 1 << 20)}"
    yield f"--ulimit=nproc={_at_most(resource.RLIMIT_NPROC, most)}"


def _at_most(limit: int, most: int) -> str:
    values = (
        most if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(limit)
    )
    return ":".join(str(min(value, most)) for value in values)


def _tag(title: str) -> str:
    """Return a title's last part as a part of an image's name may be spelled."""
    last = title.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "unnamed"
