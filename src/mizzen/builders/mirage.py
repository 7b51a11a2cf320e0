"""Dockerfiles that build MirageOS unikernels, as text.

The layers come in the order in which they change least: the tools, the unikernel's dependencies,
which follow from its configuration alone, and its source.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from mizzen.model.errors import Failure

from .unikernel_file import BOOTED, check_target

Version = Literal[3, 4]

BASES: dict[Version, str] = {
    3: "ocaml/opam:debian-11-ocaml-4.12",
    4: "ocaml/opam:debian-12-ocaml-4.14",
}
TOOLS: dict[Version, str] = {3: "mirage<4.0.0", 4: "mirage>=4.0.0"}
MADE: dict[Version, str] = {3: "", 4: "dist/"}
"""Where the build puts the unikernel, from its configuration's folder on."""

RESULT = "/unikernel"
"""Where the unikernel is in the image."""

CACHES = ("/home/opam/.opam/download-cache", "/home/opam/.cache/dune")
"""Folders that are kept between builds: what opam downloaded and what dune compiled."""

SOURCE = PurePosixPath("/home/opam/source")
OWNER = "--chown=opam:opam"
WORD = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Mirage:
    """How a unikernel is built.

    version: of MirageOS. config_file: in the source. target: of ``mirage configure -t``.
    extra_flags: further ones of ``mirage configure``.
    extra_instructions: lines of a Dockerfile that come when the tools are there, in the folder of
        the configuration and beside it, before anything is configured.
    caches: folders that are kept between builds.
    base: an image with opam; "" is one of OCaml's for that version.
    opam_repository: a commit of opam's packages; "" is what the base has.
    """

    version: Version = 4
    config_file: str = "config.ml"
    target: str = BOOTED
    extra_flags: Sequence[str] = ()
    extra_instructions: Sequence[str] = ()
    caches: Sequence[str] = CACHES
    base: str = ""
    opam_repository: str = ""


def dockerfile(mirage: Mirage, what: str) -> str:
    """Return the text of the Dockerfile. what: the beginning of a failure's line.

    Raises Failure for what would break out of its line, and for a target that does not boot.
    """
    _check(mirage, what)
    config = PurePosixPath(mirage.config_file)
    folder = SOURCE / config.parent
    run = " ".join(("RUN", *(_cache(path) for path in mirage.caches)))
    flags = "".join(f" {shlex.quote(flag)}" for flag in mirage.extra_flags)
    configure = (
        f"{run} opam exec -- mirage configure -f {shlex.quote(config.name)}"
        f" -t {mirage.target}{flags}"
    )
    lines = [
        f"FROM {mirage.base or BASES[mirage.version]} AS build",
        "RUN sudo ln -sf /usr/bin/opam-2.1 /usr/bin/opam",
        "ENV OPAMYES=1 OPAMCONFIRMLEVEL=unsafe-yes",
        "ENV DUNE_CACHE=enabled DUNE_CACHE_STORAGE_MODE=copy",
        *_packages(mirage.opam_repository, run),
        f"{run} opam install {shlex.quote(TOOLS[mirage.version])}",
        f"RUN mkdir -p {shlex.quote(str(folder))}",
        f"WORKDIR {folder}",
        f"COPY {OWNER} {config} ./",
        *mirage.extra_instructions,
        configure,
        f"{run} opam exec -- make depend",
        f"COPY {OWNER} . {SOURCE}",
        configure,
        f"{run} opam exec -- make build",
        f"RUN cp {MADE[mirage.version]}*.{mirage.target} /home/opam/unikernel",
        "",
        "FROM scratch",
        f"COPY --from=build /home/opam/unikernel {RESULT}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _packages(commit: str, run: str) -> list[str]:
    if not commit:
        return []
    there = "~/opam-repository"
    return [
        f"RUN git -C {there} fetch origin {commit} && git -C {there} reset --hard {commit}",
        f"{run} opam update",
    ]


def _cache(path: str) -> str:
    return f"--mount=type=cache,target={path},uid=1000,gid=1000"


def _check(mirage: Mirage, what: str) -> None:
    config = PurePosixPath(mirage.config_file)
    if config.is_absolute() or ".." in config.parts or not re.fullmatch(r"[\w./+-]+", str(config)):
        raise Failure(
            what,
            f"config_file={mirage.config_file!r} names no file of the source",
            "write its path in the repository, of letters, digits and . _ / + -",
        )
    if not WORD.fullmatch(mirage.target):
        raise Failure(what, f"target={mirage.target!r} is no target", f"write {BOOTED}")
    check_target(mirage.target, what)
    if mirage.opam_repository and not re.fullmatch(r"[0-9a-f]{40}", mirage.opam_repository):
        raise Failure(
            what,
            f"opam_repository={mirage.opam_repository!r} is no commit",
            "write its whole hash",
        )
    for name, words in (
        ("base", [mirage.base]),
        ("caches", mirage.caches),
        ("extra_flags", mirage.extra_flags),
        ("extra_instructions", mirage.extra_instructions),
    ):
        for word in words:
            spaced = name in {"extra_flags", "extra_instructions"}
            if "\n" in word or "\0" in word or (not spaced and re.search(r"[\s,]", word)):
                raise Failure(what, f"{name} holds {word!r}", "write each as one line")
