"""OCI images become root file systems, each once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mizzen.host.cache import keep, used, workshop
from mizzen.host.files import replacing, sha256
from mizzen.host.paths import Folders
from mizzen.model.image import ProcessConfig
from mizzen.model.progress import Progress, Report

from . import oci, rootfs
from .buildah import Buildah

FORMAT = "1"
"""Changes when equal images begin to give other root file systems."""


@dataclass(frozen=True, slots=True)
class Root:
    """An OCI image as a file system. digest: sha256 of the file, which is its name too."""

    digest: str
    process: ProcessConfig


async def make(
    buildah: Buildah, identity: str, title: str, folders: Folders, report: Report
) -> Root:
    """Return the file system of an image in the storage, made the first time.

    title: how the user knows the image. Raises Failure.
    """
    if known := recall(folders, identity):
        return known
    what = f"cannot make a root file system of {title}"
    async with workshop(folders.cache / "roots", what) as temporary:
        if known := recall(folders, identity):  # somebody else made it meanwhile
            return known
        _, config = await oci.inspect(buildah, identity, what)
        process = oci.process_config(config)
        task = f"making the root file system of {title}"
        report(Progress(task, 0, 2))
        file = temporary / "root.erofs"
        async with oci.exported(buildah, identity, temporary, what) as folder:
            report(Progress(task, 1, 2))
            await rootfs.build(folder, file, inside=buildah.inside, what=what)
        root = Root(await asyncio.to_thread(sha256, file), process)
        await asyncio.to_thread(keep, file, place(folders, root))
        with replacing(_record(folders, identity)) as record:
            record.write_bytes(msgspec.json.encode(root))
        report(Progress(task, 2, 2, finished=True))
    return root


def recall(folders: Folders, identity: str) -> Root | None:
    """Return the file system that was made of an image, None if there is none."""
    try:
        root = msgspec.json.decode(_record(folders, identity).read_bytes(), type=Root)
    except (OSError, msgspec.MsgspecError):
        return None
    return root if used(place(folders, root)) else None


def made(folders: Folders) -> Iterator[tuple[str, str]]:
    """Yield the ids of images that file systems were made of, each with that one's digest."""
    for record in (folders.cache / "images").glob(f"{FORMAT}-*.json"):
        identity = record.stem.removeprefix(f"{FORMAT}-")
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            yield identity, msgspec.json.decode(record.read_bytes(), type=Root).digest


def forget(folders: Folders, identity: str) -> None:
    """Forget what was made of an image."""
    _record(folders, identity).unlink(missing_ok=True)


def place(folders: Folders, root: Root) -> Path:
    """Return where a file system's file is."""
    return folders.cache / "roots" / root.digest


def _record(folders: Folders, identity: str) -> Path:
    return folders.cache / "images" / f"{FORMAT}-{identity}.json"
