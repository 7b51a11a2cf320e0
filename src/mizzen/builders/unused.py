"""What was built below the cache: how long nobody has asked for it, and its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.files import explained, locked
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure

from . import oci, recipe, roots
from .buildah import here

KINDS = ("files", "roots", "unikernels")
"""Folders below the cache. What they hold is named after its SHA-256."""

BUSY = "images are being built"


@dataclass(frozen=True, slots=True)
class Built:
    """A file that was built. size: bytes. used: when it was asked for last, since the epoch."""

    path: Path
    size: int
    used: float

    @property
    def digest(self) -> str:
        """The SHA-256 of its content, in hex."""
        return self.path.name


def everything(folders: Folders) -> list[Built]:
    """Return all that was built and is there, by kind and digest."""
    return [one for kind in KINDS for one in _of_kind(folders.cache / kind)]


def remove(one: Built, folders: Folders) -> None:
    """Remove a file; ``sweep`` removes the images that it was made of.

    Raises Failure if it has been asked for meanwhile, or if images are being built, which may be
    this one.
    """
    what = f"cannot remove {one.path}"
    with explained(what), locked(oci.lock(folders), Failure(what, BUSY)):
        if one.path.stat().st_mtime > one.used:
            raise Failure(what, "it has been asked for meanwhile")
        one.path.unlink()


async def sweep(folders: Folders) -> None:
    """Remove images from buildah's storage whose file systems were removed.

    Those stay that somebody else has given a name. Raises Failure, also if images are being built,
    which may start from these.
    """
    what = "cannot remove images whose file systems were"
    with explained(what), locked(oci.lock(folders), Failure(what, BUSY)):
        there = {one.digest for one in everything(folders)}
        gone = [identity for identity, digest in roots.made(folders) if digest not in there]
        if gone:
            await _forget(folders, gone, what)


def _of_kind(folder: Path) -> Iterator[Built]:
    for path in sorted(folder.glob("[0-9a-f]*")):
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it
            status = path.stat()
            yield Built(path, status.st_size, status.st_mtime)


async def _forget(folders: Folders, identities: list[str], what: str) -> None:
    buildah = await here(folders)
    present = await oci.stored(buildah)
    for identity in identities:
        names = [name for name, image in present.names.items() if image == identity]
        if identity in present.ids and all(name.startswith(recipe.TAGS) for name in names):
            with contextlib.suppress(Failure):  # others that stay may start from it
                await buildah("rmi", identity, what=what)
        roots.forget(folders, identity)
    recipe.forget(folders, identities)
