"""Unikernels out of files and images; and MirageOS's Dockerfile, built with tools that pretend."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import hello
import msgspec
import pytest
from manual_clock import ManualClock
from stepping import Stepper

from mizzen.builders.kernel import user_kernel
from mizzen.engine.operation import encode
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.states import Failed, Ok
from mizzen.engine.terms import constant
from mizzen.host.paths import Folders
from mizzen.sources import file as files
from mizzen.steps import docker, unikernel

OPAM = """\
#!/bin/sh
echo "opam $*"
case "$*" in
"exec -- mirage configure"*) cp config.ml configured ;;
"exec -- make build") mkdir -p dist && cp kernel.elf dist/hello.virtio ;;
esac
"""

BASE = """\
FROM scratch
COPY . /
USER opam
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> list[Path]:
    place = tmp_path_factory.mktemp("kernels")
    return [hello.build(place / release, release=release) for release in ("1", "2")]


@pytest.fixture
def stepper(tmp_path) -> Stepper:
    """An engine whose images boot a file with no more than a kernel's marks."""
    folders = Folders(tmp_path / "state", tmp_path / "runtime")
    place = folders.cache / "kernels"
    place.mkdir(parents=True)
    header = bytearray(0x1000)
    header[0x1FE:0x200] = b"\x55\xaa"
    header[0x202:0x208] = b"HdrS\x0f\x02"
    (place / "vmlinuz").write_bytes(header)
    kernel = msgspec.json.encode(user_kernel(place / "vmlinuz"), enc_hook=encode)
    for suite in ("bookworm", "trixie"):
        (place / f"{suite}.json").write_bytes(kernel)
    return Stepper(folders)


async def until(stepper: Stepper, condition) -> None:
    async with asyncio.timeout(120):
        while not condition():
            stepper.clock.pass_(1)
            await asyncio.sleep(0.02)


def forget(*images: str) -> None:
    subprocess.run(["buildah", "rmi", "--force", *images], capture_output=True, check=False)


def test_a_file_is_an_image_and_another_when_it_changes(stepper, kernels, tmp_path):
    place = tmp_path / "hello.elf"
    shutil.copy(kernels[0], place)
    seen = {}

    def pipeline():
        seen["image"] = unikernel.file(place)

    def holds(content: bytes) -> bool:
        state = seen["image"].state
        return isinstance(state, Ok) and state.value.kernel.path.read_bytes() == content

    async def scenario():
        async with stepper.running(pipeline):
            await until(stepper, lambda: holds(kernels[0].read_bytes()))
            image = seen["image"].state.value
            assert (image.initramfs, image.root, image.process) == (None, None, None)
            assert image.reference == str(place)
            shutil.copy(kernels[1], place)
            await until(stepper, lambda: holds(kernels[1].read_bytes()))
            assert image.kernel.path.read_bytes() == kernels[0].read_bytes(), "machines boot it yet"
            place.write_bytes(b"#!/bin/sh\n")
            await until(stepper, lambda: isinstance(seen["image"].state, Failed))
            told = str(seen["image"].state.error)
            assert told.startswith(f"cannot boot {place}: it is a script; name a unikernel")

    asyncio.run(scenario())


def test_a_file_that_is_exchanged_through_a_link_is_noticed(tmp_path):
    one, two, link = (tmp_path / name for name in ("a/one", "b/two", "link"))
    for path in (one, two):
        path.parent.mkdir()
        path.write_text(path.name)
    link.symlink_to(one)
    clock = ManualClock()

    async def scenario():
        found = files.follow(link, clock)
        first = await anext(found)
        following = asyncio.create_task(anext(found))
        new = tmp_path / "new"
        new.symlink_to(two)
        new.rename(link)
        while not following.done():
            clock.pass_(files.PATIENCE)
            await asyncio.sleep(0.01)
        assert following.result() != first
        following = asyncio.create_task(anext(found))
        two.write_text("three")
        while not following.done():
            clock.pass_(files.PATIENCE)
            await asyncio.sleep(0.01)
        assert following.result().size == 5
        await found.aclose()

    asyncio.run(scenario())


def test_it_comes_out_of_an_image(stepper, kernels, tmp_path):
    source = tmp_path / "mizzen-test-unikernel"
    source.mkdir()
    shutil.copy(kernels[0], source / "hello.elf")
    (source / "Dockerfile").write_text("FROM scratch\nCOPY hello.elf /unikernel.elf\n")
    seen = {}

    def pipeline():
        seen["image"] = unikernel.from_docker(docker.build(source))

    async def scenario():
        async with stepper.running(pipeline):
            await until(stepper, lambda: isinstance(seen["image"].state, Ok | Failed))
            image = seen["image"].state.value
            assert image.kernel.path.read_bytes() == kernels[0].read_bytes()
            assert image.reference == str(source)

    try:
        asyncio.run(scenario())
    finally:
        forget("localhost/mizzen/functions/mizzen-test-unikernel")


@pytest.fixture
def base(tmp_path):
    """An image with a shell, whose opam and mirage only say what they were asked."""
    place = tmp_path / "base"
    (place / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", place / "bin" / "busybox")
    for applet in ("sh", "cp", "ln", "mkdir"):
        (place / "bin" / applet).symlink_to("busybox")
    programs = {"bin/sudo": '#!/bin/sh\nexec "$@"\n', "usr/bin/opam-2.1": OPAM}
    for name, text in programs.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (place / "usr" / "bin").chmod(0o777)  # sudo, which is none, makes a link there
    (place / "etc").mkdir()
    (place / "etc" / "passwd").write_text("opam:x:1000:1000::/home/opam:/bin/sh\n")
    (place / "etc" / "group").write_text("opam:x:1000:\n")
    (place / "home" / "opam").mkdir(parents=True)
    (place / "home" / "opam").chmod(0o777)
    name = "localhost/mizzen/test-opam"
    (place / "Dockerfile").write_text(BASE)
    command = ["buildah", "build", "--isolation=chroot", "--quiet", "--tag", name, place]
    subprocess.run(command, check=True, capture_output=True)
    yield name
    forget(name)


def test_mirages_dockerfile_builds(stepper, kernels, base, tmp_path):
    source = tmp_path / "mizzen-test-mirage"
    (source / "dns").mkdir(parents=True)
    (source / "dns" / "config.ml").write_text("let () = register")
    shutil.copy(kernels[0], source / "dns" / "kernel.elf")
    seen = {}

    def pipeline():
        seen["image"] = unikernel.from_git(
            source,
            config_file="dns/config.ml",
            extra_flags=[constant("--dhcp=false"), "--hello=a b"],
            extra_instructions=["RUN echo instructed"],
            base=base,
        )

    async def scenario():
        async with stepper.running(pipeline) as engine:
            await until(stepper, lambda: isinstance(seen["image"].state, Ok) or failed(engine))
            image = seen["image"].state.value
            assert image.kernel.path.read_bytes() == kernels[0].read_bytes()

    def failed(engine) -> bool:
        (graph,) = engine.graphs
        for term in graph.terms.values():
            if isinstance(term.state, Failed):
                raise term.state.error
        return False

    try:
        asyncio.run(scenario())
    finally:
        forget("localhost/mizzen/functions/mizzen-test-mirage")


def test_what_is_given_wrong_is_told_at_its_step():
    def pipeline():
        unikernel.file(3)
        unikernel.from_docker("image")
        unikernel.from_git("x", mirage=5)
        unikernel.from_git("y", target="hvt")
        unikernel.from_git("z", extra_flags="--dhcp")
        unikernel.from_git("w", extra_flags=[3])

    terms = [term for term in Pipeline(pipeline).build().terms.values() if term.drawn]
    told = [(term.label, term.compute()) for term in terms]
    errors = [f"{label}: {state.error}" for label, state in told if isinstance(state, Failed)]
    for why in (
        "unikernel: cannot do unikernel: file: Expected `object`, got `int`",
        "docker file /unikernel.elf: cannot do docker file /unikernel.elf: image: ",
        "unikernel from_git x: cannot do unikernel from_git x: an argument: Invalid enum value 5",
        "unikernel from_git y: cannot do unikernel from_git y: what is made for hvt does not boot",
        "unikernel from_git z: cannot do unikernel from_git z: '--dhcp': a list is wanted",
        "unikernel from_git w: cannot do unikernel from_git w: an argument: Expected `str`",
    ):
        assert any(error.startswith(why) for error in errors), (why, errors)
    assert all(f"mend {__file__}:" in error for error in errors)
