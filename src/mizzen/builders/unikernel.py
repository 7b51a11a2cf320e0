"""A unikernel's file becomes what a machine boots: itself."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from mizzen.engine.operation import TemporaryFailure
from mizzen.host.cache import bench, keep, used
from mizzen.host.files import explained
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.file import File
from mizzen.model.image import Image, Kernel

from .unikernel_file import check

LARGEST = 1 << 30
"""Bytes; a file beyond that is no unikernel, and is not read."""


async def image(file: File, reference: str, folders: Folders) -> Image:
    """Return what a machine boots of a unikernel's file, which is kept below the cache.

    reference: how the user knows it.
    Raises Failure if QEMU cannot boot it or there is no disk space, TemporaryFailure if it is not
    what it was any more.
    """
    what = f"cannot boot {reference}"
    with explained(what):
        data = await asyncio.to_thread(_read, file.path, what)
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.digest:
        raise TemporaryFailure(what, "it was changed meanwhile", "it is read again")
    check(data, what)
    place = folders.cache / "unikernels" / digest
    if not used(place):
        async with bench(place.parent, what) as temporary:
            made = temporary / "unikernel"
            await asyncio.to_thread(made.write_bytes, data)
            keep(made, place)
    return Image(
        reference=reference,
        kernel=Kernel(place, release="", modules=None, digest=digest),
        initramfs=None,
        root=None,
        process=None,
        digest=digest,
    )


def _read(path: Path, what: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Failure(what, "it is too large to be a unikernel", "name another")
    return data
