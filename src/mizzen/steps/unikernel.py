"""Unikernels: kernels that are a program of their own, out of files, images and repositories."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import msgspec

from mizzen.builders import image as images
from mizzen.builders import mirage as mirages
from mizzen.builders import unikernel
from mizzen.builders.mirage import CACHES, Mirage, Version
from mizzen.builders.unikernel_file import BOOTED
from mizzen.engine.job import Job
from mizzen.engine.operation import Build
from mizzen.engine.policy import Level, Policy
from mizzen.engine.step import failed, step, wrong
from mizzen.engine.terms import Input, Term, caller, constant, gather
from mizzen.model.errors import Failure
from mizzen.model.file import File
from mizzen.model.image import Image
from mizzen.sources.folder import Folder
from mizzen.sources.git import Commit

from . import docker, local

__all__ = ["CACHES", "file", "from_docker", "from_git"]

FROM_GIT = "unikernel from_git"


class Unikernel(Build[Image], frozen=True, kw_only=True):
    """What a machine boots of a unikernel's file. title: how the user knows it."""

    id: ClassVar[str] = "unikernel"
    noun: ClassVar[str] = "image"
    policy: ClassVar[Policy] = Policy(level=Level.LOW, timeout=600.0)
    file: File
    title: str

    async def run(self, job: Job) -> Image:
        """Look whether it can be booted, and keep it."""
        return await unikernel.image(self.file, self.title, job.folders)

    async def holds(self, value: Image, job: Job) -> bool:  # noqa: ARG002
        """Whether the image's file is there."""
        return images.is_there(value)


def file(kernel: Input[File] | str | Path) -> Term[Image]:
    """Return a unikernel's file as what a machine boots.

    kernel: a file as ``local.file`` and ``docker.file`` return it, or the path of one, for which
        ``local.file`` is called.

        image = unikernel.file("build/hello.elf")
        spec = machines.spec("hello", image, memory="16M", args=lambda ip: [f"--listen={ip}:80"])

    It is kept below the cache by its content: equal files are equal images.

    Fails if QEMU cannot boot it: it boots ELF files for x86-64 with PVH's note or with Multiboot's
    header; what is made for another of Solo5's targets than virtio is told by its name.
    """
    if isinstance(kernel, str | Path):
        return _image(local.file(kernel), str(kernel), str(kernel))
    title = kernel.map(_name) if isinstance(kernel, Term) else _name(kernel)
    return _image(kernel, title)


def from_docker(image: Input[Image], path: Input[str] = "/unikernel.elf") -> Term[Image]:
    """Return the unikernel that a file in an image is.

    image: as ``docker.build`` and ``docker.pull`` return it; it need not name a command.
    path: absolute, in the image.

        image = unikernel.from_docker(docker.build("hello", build_args={"RELEASE": "2"}))

    Fails as ``docker.file`` and ``file`` do.
    """
    title = image.map(_reference) if isinstance(image, Term) else _reference(image)
    return _image(docker.file(image, path), title, path if isinstance(path, str) else "")


def from_git(
    source: Input[Commit] | Input[Folder] | str | Path,
    *,
    mirage: Version = 4,
    config_file: Input[str] = "config.ml",
    target: Input[str] = BOOTED,
    extra_flags: Sequence[Input[str]] = (),
    extra_instructions: Sequence[Input[str]] = (),
    caches: Sequence[str] = CACHES,
    base: Input[str] = "",
    opam_repository: Input[str] = "",
) -> Term[Image]:
    """Return the MirageOS unikernel that a repository holds, built by a generated Dockerfile.

    source: as of ``docker.build``.
    mirage: the version of MirageOS that it is written for, 3 or 4.
    config_file: its configuration, in the source.
    target: of ``mirage configure -t``. QEMU boots virtio only.
    extra_flags: further ones of ``mirage configure``.
    extra_instructions: lines for the Dockerfile, once MirageOS is there and before the unikernel is
        configured; in the folder of its configuration.
    caches: folders that are kept from one build to the next: what opam downloads, what dune made.
    base: an image with opam; by default one of OCaml's for that version.
    opam_repository: the commit of opam's packages that is used; by default that of the base.

        source = git.head("https://git.example.org/dns.git")
        packages = git.head("https://git.example.org/opam-repository.git", "master")
        image = unikernel.from_git(source, config_file="mirage/config.ml",
                                   extra_flags=["--dhcp=false"], opam_repository=packages.hash)

    Fails as ``docker.build`` does, and at once for a target that does not boot.
    """
    name = f"{FROM_GIT} {source}" if isinstance(source, str | Path) else FROM_GIT
    for argument in (extra_flags, extra_instructions, caches):
        if not isinstance(argument, list | tuple):
            return failed(name, wrong(name, repr(argument), TypeError("a list is wanted")))
    words = (config_file, target, base, opam_repository, *extra_flags, *extra_instructions)
    write = partial(_dockerfile, name, mirage, tuple(caches), len(extra_flags))
    if any(isinstance(word, Term) for word in words):
        terms = (word if isinstance(word, Term) else constant(word) for word in words)
        text: Input[str] = gather(terms).map(write, f"{name} Dockerfile")
    else:
        try:
            text = write(words)
        except Failure as error:
            told = Failure(error.what, error.why, f"{error.fix}; mend {caller()}")
            return failed(name, told)
        except msgspec.ValidationError as error:
            return failed(name, wrong(name, "an argument", error))
    return from_docker(docker.build(source, dockerfile_text=text), mirages.RESULT)


def _dockerfile(
    name: str, version: Version, caches: tuple[str, ...], flags: int, words: tuple[object, ...]
) -> str:
    config_file, target, base, opam_repository, *more = words
    wanted = {
        "version": version,
        "config_file": config_file,
        "target": target,
        "base": base,
        "opam_repository": opam_repository,
        "extra_flags": more[:flags],
        "extra_instructions": more[flags:],
        "caches": caches,
    }
    return mirages.dockerfile(msgspec.convert(wanted, Mirage), f"cannot do {name}")


def _image(kernel: Input[File], title: Input[str], label: str = "") -> Term[Image]:
    return step(Unikernel, label, file=kernel, title=title)


def _name(kernel: File) -> str:
    return str(kernel.path) if isinstance(kernel, File) else ""  # what else it is, its step tells


def _reference(image: Image) -> str:
    return image.reference if isinstance(image, Image) else ""
