"""OCI images: build them from Dockerfiles, look into them, take their files out."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shlex
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from mizzen.host.process import run
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.progress import Progress, Report

from .buildah import Buildah, explain, mark, sweep

STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+)/(\d+)")
NO_SUCH = re.compile("image not known|no such image|manifest unknown|not found|unauthorized|denied")


def process_config(config: Mapping[str, object], what: str) -> ProcessConfig:
    """Read an OCI image's config.

    Source: image-spec, config.md. Raises Failure if it names no command to run.
    """

    def strings(key: str) -> tuple[str, ...]:
        value = config.get(key)
        return tuple(str(item) for item in value) if isinstance(value, list) else ()

    exposed = config.get("ExposedPorts")
    ports = exposed if isinstance(exposed, dict) else {}
    arguments = strings("Entrypoint") + strings("Cmd")
    if not arguments:
        fix = "give its Dockerfile a CMD or ENTRYPOINT"
        raise Failure(what, "the image names no command to run", fix)
    return ProcessConfig(
        arguments=arguments,
        environment=strings("Env"),
        user=str(config.get("User") or ""),
        directory=str(config.get("WorkingDir") or "/"),
        ports=tuple(sorted({port for key in ports if (port := tcp_port(str(key)))})),
    )


def tcp_port(exposed: str) -> int:
    """Return the port of an ExposedPorts key such as "8080/tcp"; 0 if it is no TCP port."""
    found = re.fullmatch(r"(\d{1,5})(?:/tcp)?", exposed)
    return int(found[1]) if found and int(found[1]) < 65536 else 0


async def names(buildah: Buildah) -> dict[str, str]:
    """Return the ids of all images in the storage by their full names with tags."""
    listed = await buildah(
        "images", "--json", "--no-trunc", what="cannot list the images of buildah"
    )
    images = json.loads(listed.text or "null") or []
    return {
        name: image["id"].removeprefix("sha256:")
        for image in images
        for name in image.get("names") or ()
    }


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

    Raises Failure if it is neither there nor at its registry.
    """
    what = f"cannot use image {reference}"
    try:
        return (await inspect(buildah, reference, what))[0]
    except Failure as failure:
        if reference.startswith("localhost/"):
            fix = "see: buildah images"
            raise Failure(what, "no image is called that on this host", fix) from failure
    task = f"pulling {reference}"
    report(Progress(task))
    try:
        pulled = await buildah("pull", "--quiet", reference, what=what)
    except Failure as failure:
        missing = NO_SUCH.search(failure.why)
        why = "it does not exist here nor at its registry" if missing else failure.why
        raise Failure(what, why, "check its name and the network") from failure
    report(Progress(task, finished=True))
    return pulled.text.splitlines()[-1]


async def build(buildah: Buildah, folder: Path, tag: str, record: Path, report: Report) -> str:
    """Build a folder's Dockerfile and return the image's id.

    Equal inputs give equal images: all times are 0. record: where buildah notes the id; temporary
    files go beside it.
    Raises Failure if a step fails, naming it and its last line of output.
    """
    what = f"cannot build {folder}"
    task = f"building {tag}"
    report(Progress(task))

    def on_line(line: str) -> None:
        if step := STEP.match(line):
            report(Progress(task, int(step[1]) - 1, int(step[2])))

    await sweep(buildah)
    own = mark()
    try:
        # Steps write to stdout, which is followed line by line only if it is stderr.
        await run(
            "sh", "-c", 'exec "$@" >&2', "sh",
            *buildah.command, "build",
            "--isolation", buildah.isolation, "--network", "host",
            "--timestamp", "0", "--layers", "--pull=false", "--force-rm",
            *_limits(), "--add-host", f"{own}:127.0.0.1",
            "--iidfile", record, "--tag", tag, folder,
            what=what, env={"TMPDIR": str(record.parent)}, on_line=on_line, explain=explain,
        )  # fmt: skip
    except BaseException:
        await sweep(buildah, own)
        raise
    finally:
        report(Progress(task, finished=True))
    return _identity(record)


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


def _identity(record: Path) -> str:
    return record.read_text().strip().removeprefix("sha256:")


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
