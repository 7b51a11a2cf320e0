"""Single files out of images: how what was built in a container gets out of it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from mizzen.host.cache import bench, keep
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.file import File
from mizzen.model.image import Image

from .erofs import Erofs, Missing


async def file(image: Image, path: str, folders: Folders) -> File:
    """Return a file of an image, kept below the cache by its content.

    path: absolute, in the image; symbolic links are followed as in the image, never out of it.
    Raises Failure if there is no regular file of that name, or no disk space.
    """
    what = f"cannot take {path} out of {image.reference}"
    if not path.startswith("/"):
        raise Failure(what, "it is no absolute path", f"write /{path}")
    if image.root is None:
        raise Failure(what, "that image has no file system", "name one that docker.build made")
    async with bench(folders.cache / "files", what) as temporary:
        try:
            return await asyncio.to_thread(_copy, image.root, path, temporary / "file", folders)
        except Missing as missing:
            raise Failure(what, str(missing), "name a file that is in the image") from missing


def _copy(root: Path, path: str, made: Path, folders: Folders) -> File:
    total = hashlib.sha256()
    size = 0
    with root.open("rb") as opened, made.open("xb") as written:
        system = Erofs(opened)
        for chunk in system.content(system.find(path)):
            total.update(chunk)
            size += written.write(chunk)
    digest = total.hexdigest()
    return File(keep(made, folders.cache / "files" / digest), digest, size)
