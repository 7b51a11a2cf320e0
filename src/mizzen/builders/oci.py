"""OCI images: pull them, look into them, take their files out."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.paths import Folders
from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.progress import Progress, Report

from .buildah import Buildah, explain, retriable, sweep

NO_SUCH = re.compile(
    "image not known|no such image|manifest unknown|not found|unauthorized|denied"
    "|StatusCode: 40[134]"
)
LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]):\d+/")


@dataclass(frozen=True, slots=True)
class Stored:
    """The images in the storage. names: their ids by their full names with tags."""

    names: Mapping[str, str]
    ids: frozenset[str]


def process_config(config: Mapping[str, object]) -> ProcessConfig:
    """Read an OCI image's config.

    Source: image-spec, config.md.
    """

    def strings(key: str) -> tuple[str, ...]:
        value = config.get(key)
        return tuple(str(item) for item in value) if isinstance(value, list) else ()

    exposed = config.get("ExposedPorts")
    ports = exposed if isinstance(exposed, dict) else {}
    return ProcessConfig(
        arguments=strings("Entrypoint") + strings("Cmd"),
        environment=strings("Env"),
        user=str(config.get("User") or ""),
        directory=str(config.get("WorkingDir") or "/"),
        ports=tuple(sorted({port for key in ports if (port := tcp_port(str(key)))})),
    )


def tcp_port(exposed: str) -> int:
    """Return the port of an ExposedPorts key such as "8080/tcp"; 0 if it is no TCP port."""
    found = re.fullmatch(r"(\d{1,5})(?:/tcp)?", exposed)
    return int(found[1]) if found and int(found[1]) < 65536 else 0


def lock(folders: Folders) -> Path:
    """Return what whoever needs images to stay in the storage locks, shared with others."""
    return folders.cache / "images" / ".lock"


async def stored(buildah: Buildah) -> Stored:
    """Return the images in the storage."""
    listed = await buildah(
        "images", "--all", "--json", "--no-trunc", what="cannot list the images of buildah"
    )
    images = json.loads(listed.text or "null") or []
    ids = [image["id"].removeprefix("sha256:") for image in images]
    names = {
        name: identity
        for image, identity in zip(images, ids, strict=True)
        for name in image.get("names") or ()
    }
    return Stored(names, frozenset(ids))


def full_name(reference: str) -> str:
    """Return a reference with its tag, as the storage lists it."""
    return reference if ":" in reference.rpartition("/")[2] or "@" in reference else (
        reference + ":latest"
    )  # fmt: skip


async def inspect(buildah: Buildah, reference: str, what: str) -> tuple[str, dict[str, object]]:
    """Return the id and the config of an image in the storage."""
    found = await buildah("inspect", "--type", "image", reference, what=what)
    image = json.loads(found.text)
    return str(image["FromImageID"]), dict(image["OCIv1"].get("config") or {})


async def fetch(buildah: Buildah, reference: str, report: Report) -> str:
    """Return the id of an image, pulling it if the storage does not have it.

    Raises Failure if it is neither there nor at its registry, TemporaryFailure if that cannot be
    reached.
    """
    try:
        return (await inspect(buildah, reference, _what(reference)))[0]
    except Failure as failure:
        if local(reference):
            why, fix = "no image is called that on this host", "see: buildah images"
            raise Failure(_what(reference), why, fix) from failure
    return await pull(buildah, reference, report)


async def pull(buildah: Buildah, reference: str, report: Report) -> str:
    """Return the id of what a registry has under a name at present.

    What the storage has of it already is not fetched again. Raises Failure as ``fetch`` does.
    """
    what = _what(reference)
    task = f"pulling {reference}"
    report(Progress(task))
    # Where no packet leaves the host there is nobody for a certificate to keep out.
    plain = ("--tls-verify=false",) if LOOPBACK.match(reference) else ()
    try:
        with retriable():
            pulled = await buildah(
                "pull", "--quiet", "--policy", "always", *plain, "--", reference, what=what
            )
    except Failure as failure:
        if not NO_SUCH.search(failure.why):
            raise
        why = "it does not exist here nor at its registry"
        raise Failure(what, why, "check its name, and: buildah login") from failure
    report(Progress(task, finished=True))
    return pulled.text.splitlines()[-1]


def local(reference: str) -> bool:
    """Whether a name is one that no registry has."""
    return reference.startswith("localhost/")


def _what(reference: str) -> str:
    return f"cannot use image {reference}"


@contextlib.asynccontextmanager
async def exported(buildah: Buildah, image: str, into: Path, what: str) -> AsyncIterator[Path]:
    """Yield a folder with an image's root file system as it is: owners, links, attributes.

    into: where the folder is made; it is gone afterwards.
    """
    folder = into / "root"
    try:
        await copy_out(buildah, image, folder, "cp -a --reflink=auto", what)
        yield folder
    finally:
        # Without root, the files belong to users that only the namespace may act for.
        await run(*buildah.inside, "rm", "-rf", folder, what=what)


async def copy_out(buildah: Buildah, image: str, folder: Path, copy: str, what: str) -> None:
    """Copy an image's files into a new folder by a copying command."""
    await sweep(buildah)
    async with buildah.container(image, what) as container:
        # One script, because what is mounted in a user namespace is seen in it alone.
        mount = shlex.join(["buildah", *buildah.options, "mount", container])
        script = f'root=$({mount}) && mkdir "$1" && {copy} "$root/." "$1"'
        await run(*buildah.inside, "sh", "-c", script, "sh", folder, what=what, explain=explain)
