"""Images: built from Dockerfiles, pulled from registries, and single files out of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from mizzen.builders import image as images
from mizzen.builders import recipe, taking
from mizzen.builders.recipe import Recipe
from mizzen.engine.job import Job
from mizzen.engine.operation import Build, TemporaryFailure
from mizzen.engine.policy import Level, Policy, Pool, policy
from mizzen.engine.step import failed, step, wrong
from mizzen.engine.terms import Input, Term
from mizzen.host import trees
from mizzen.host.files import explained
from mizzen.model.duration import seconds
from mizzen.model.errors import Failure
from mizzen.model.file import File
from mizzen.model.image import Image
from mizzen.sources.folder import WITHOUT, Folder
from mizzen.sources.git import Commit, checkout
from mizzen.sources.repository import shown

from . import local

__all__ = ["File", "Image", "build", "file", "pull"]

POOL = Pool("build", 2)
TIMEOUT = 2 * 3600.0
"""Seconds for what fetches and compiles."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is built: one of the two."""

    commit: Commit | None = None
    folder: Folder | None = None

    @property
    def title(self) -> str:
        """How the user knows it; the same for every state of it, as images are equal by it."""
        return shown(self.commit.repository) if self.commit else str(self.folder)

    async def place(self, job: Job) -> Path:
        """Return the folder that its files are in."""
        if self.commit is not None:
            return await checkout(self.commit, job.folders, job.report)
        assert self.folder is not None
        return self.folder.path

    async def check(self) -> None:
        """Raise TemporaryFailure if it is no more what it was."""
        if self.folder is None:
            return
        what = f"cannot build {self.title}"
        with explained(what):
            now = await asyncio.to_thread(trees.digest, self.folder.path, WITHOUT)
        if now != self.folder.digest:
            fix = "it is built again once it has settled"
            raise TemporaryFailure(what, "it was changed meanwhile", fix)


class BuildImage(Build[Image], frozen=True, kw_only=True):
    """An image by a Dockerfile. The fields are those of ``Recipe``, path: of ``build``."""

    id: ClassVar[str] = "docker build"
    noun: ClassVar[str] = "image"
    policy: ClassVar[Policy] = Policy(level=Level.LOW, pool=POOL, timeout=TIMEOUT)
    source: Context
    path: str
    dockerfile: str
    text: str
    target: str
    build_args: dict[str, str]

    async def run(self, job: Job) -> Image:
        """Build it."""
        title = self.source.title if self.path == "." else f"{self.source.title}/{self.path}"
        what = f"cannot build {title}"
        folder = recipe.inside(await self.source.place(job), self.path, what)
        if not folder.is_dir():
            raise Failure(what, f"it holds no folder {self.path}", "name one that is in it")
        wanted = Recipe(
            title=title,
            folder=folder,
            dockerfile=self.dockerfile,
            text=self.text,
            target=self.target,
            arguments=self.build_args,
        )
        built = await images.of_recipe(wanted, folders=job.folders, report=job.report, log=job.log)
        await self.source.check()
        return built

    async def holds(self, value: Image, job: Job) -> bool:  # noqa: ARG002
        """Whether the image's files are there."""
        return images.is_there(value)


class PullImage(Build[Image], frozen=True, kw_only=True):
    """What a registry has under a name."""

    id: ClassVar[str] = "docker pull"
    noun: ClassVar[str] = "image"
    policy: ClassVar[Policy] = Policy(level=Level.LOW, pool=POOL, timeout=TIMEOUT, latched=True)
    reference: str

    async def run(self, job: Job) -> Image:
        """Pull it."""
        return await images.pulled(self.reference, folders=job.folders, report=job.report)

    async def holds(self, value: Image, job: Job) -> bool:  # noqa: ARG002
        """Whether the image's files are there."""
        return images.is_there(value)


class TakeFile(Build[File], frozen=True, kw_only=True):
    """A file out of an image."""

    id: ClassVar[str] = "docker file"
    policy: ClassVar[Policy] = Policy(level=Level.LOW, timeout=TIMEOUT)
    image: Image
    path: str

    async def run(self, job: Job) -> File:
        """Take it out."""
        taken = await taking.file(self.image, self.path, job.folders)
        job.log(f"{self.path} has {taken.size} bytes, SHA-256 {taken.digest}")
        return taken

    async def holds(self, value: File, job: Job) -> bool:  # noqa: ARG002
        """Whether the file is there."""
        return value.path.is_file()


def build(
    source: Input[Commit] | Input[Folder] | str | Path,
    *,
    path: Input[str] = ".",
    dockerfile: Input[str] = "",
    dockerfile_text: Input[str] = "",
    target: Input[str] = "",
    build_args: Mapping[str, Input[str]] | None = None,
) -> Term[Image]:
    """Return the image that a Dockerfile makes, and again when what goes into it changes.

    source: a commit, as ``git.head`` returns it; a folder, as ``local.path`` does; or a folder's
        path, for which ``local.path`` is called.
    path: the folder in the source that is built; COPY and ADD see what is in it.
    dockerfile: the Dockerfile's path in that folder; by default Containerfile or Dockerfile.
    dockerfile_text: a Dockerfile itself, where the folder has none, or another.
    target: the stage to build, by name; by default the last.
    build_args: what the Dockerfile's ARG get.

        image = docker.build(source, build_args={"VERSION": source.short})
        tools = docker.build(source, path="tools", dockerfile="Dockerfile.static", target="out")

    What a build writes is in its job's log. Nothing is built if the files, the Dockerfile, its
    arguments and the images it starts from are what they were before. Two builds run at a time,
    each two hours at most; one that is cancelled takes all that it has started along.

    Fails if a step of the Dockerfile does, and names its line; is tried again if a registry
    cannot be reached.
    """
    label = _label(source, path)
    name = f"{BuildImage.id} {label}".strip()
    if _given(dockerfile) and _given(dockerfile_text):
        return failed(name, wrong(name, "dockerfile_text", ValueError("dockerfile is given too")))
    try:
        context = _context(source)
    except TypeError as error:
        return failed(name, wrong(name, "source", error))
    return step(
        BuildImage,
        label,
        source=context,
        path=path,
        dockerfile=dockerfile,
        text=dockerfile_text,
        target=target,
        build_args={} if build_args is None else build_args,
    )


def pull(reference: Input[str], *, every: str | float = "1d") -> Term[Image]:
    """Return the image that a registry has under a name, and again when it has another.

    reference: as ``buildah pull`` takes it, with the registry's name and best with a tag:
        "registry.example.org/site:1". One with a digest, "...@sha256:...", stays what it is.
        One that begins with "localhost/" is an image of this host's.
    every: how often the registry is asked: "12h", "1d", or seconds.

        cache = docker.pull("registry.example.org/library/redis:7", every="12h")

    Credentials are those of ``buildah login``. A registry at localhost:PORT may speak plain HTTP.

    Is tried again if the registry cannot be reached, and what was pulled last stays meanwhile;
    fails if the registry has no such image.
    """
    label = reference if isinstance(reference, str) else ""
    try:
        valid = seconds(every)
    except ValueError as error:
        name = f"{PullImage.id} {label}".strip()
        return failed(name, wrong(name, "every", error))
    with policy(valid_for=valid):
        return step(PullImage, label, reference=reference)


def file(image: Input[Image], path: Input[str]) -> Term[File]:
    """Return a file out of an image: so what was built in a container gets out of it.

    image: as ``docker.build`` and ``docker.pull`` return it; it need not name a command.
    path: absolute, in the image. Symbolic links are followed in the image and never out of it.

        kernel = docker.file(docker.build(source, target="out"), "/hello.elf")

    The file is kept below the cache by its content: equal files are equal values, wherever they
    came from, and nothing that follows from them is done again.

    Fails if the image has no regular file of that name, or if there is no disk space.
    """
    return step(TakeFile, path if isinstance(path, str) else "", image=image, path=path)


def _context(source: Input[Commit] | Input[Folder] | str | Path) -> Input[Context]:
    if isinstance(source, str | Path):
        return local.path(source).map(_as_context)
    if isinstance(source, Term):
        return source.map(_as_context)
    return _as_context(source)


def _as_context(source: Commit | Folder) -> Context:
    if isinstance(source, Commit):
        return Context(commit=source)
    if isinstance(source, Folder):
        return Context(folder=source)
    raise TypeError(f"a commit or a folder is wanted, not a {type(source).__name__}")


def _given(text: Input[str]) -> bool:
    return isinstance(text, Term) or bool(text)


def _label(source: object, path: Input[str]) -> str:
    """Return what tells a build from others, as far as it is known already."""
    words = [str(word) for word in (source, path) if isinstance(word, str | Path)]
    return " ".join(word for word in words if word != ".")
