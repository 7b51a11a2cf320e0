import asyncio
import contextlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mizzen.builders import image
from mizzen.model.errors import Failure
from mizzen.model.progress import silent

EXAMPLE = Path(__file__).parents[3] / "examples/functions/hellooopsie"
SLEEPER = "FROM localhost/mizzen/python\nRUN setsid sleep 987 & sleep 987\nCMD x\n"

BUILD = """
import asyncio, sys
from pathlib import Path
from mizzen.builders import image
from mizzen.host.paths import Folders
from mizzen.model.image import Kernel
from mizzen.model.progress import silent
state, runtime, source = map(Path, sys.argv[1:])
kernel = Kernel(source, "", None, "00")
asyncio.run(image.build(source, kernel=kernel, folders=Folders(state, runtime), report=silent))
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example under a name of its own, so that a user's image of it is left alone."""
    folder = tmp_path_factory.mktemp("example") / "mizzen-test-example"
    shutil.copytree(EXAMPLE, folder)
    yield folder
    remove_image(folder)


def remove_image(folder):
    name = f"localhost/mizzen/functions/{folder.name}"
    subprocess.run(["buildah", "rmi", "--force", name], capture_output=True, check=False)


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleepers():
    """Return the pids of what the sleeping build step runs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes() == b"sleep\x00987\0":
                found.append(int(folder.name))
    return found


def test_the_example_becomes_an_image(build, example):
    made = build(example)
    assert made.process.arguments == ("python3", "/srv/hellooopsie.py")
    assert made.process.user == "nobody"
    assert made.process.directory == "/srv"
    assert made.process.ports == (8080,)
    assert "PORT=8080" in made.process.environment
    subprocess.run(["fsck.erofs", str(made.root)], check=True, capture_output=True)


def test_an_unchanged_folder_is_not_built_again(build, example):
    made = build(example)
    reports = []
    assert build(example, reports) == made
    assert reports == []


def test_building_anew_gives_the_same_bits(build, example, folders):
    made = build(example)
    for kind in ("builds", "images", "roots"):
        shutil.rmtree(folders.cache / kind)
    remove_image(example)
    assert build(example) == made


def test_a_base_image_boots_as_it_is(build):
    process = build("localhost/mizzen/python").process
    assert process.arguments == ("/usr/bin/python3",)
    assert any(entry.startswith("PATH=/") for entry in process.environment)


def test_a_failing_step_is_told_and_leaves_nothing(build, function, containers):
    before = containers()
    text = "FROM localhost/mizzen/python\nRUN echo no such luck && exit 3\nCMD x\n"
    with pytest.raises(Failure) as failure:
        build(function(text))
    assert "Dockerfile:2: RUN echo no such luck && exit 3 failed" in str(failure.value)
    assert "(no such luck)" in str(failure.value)
    assert containers() <= before


def test_an_image_that_does_not_exist_is_told(build):
    with pytest.raises(Failure, match="no image is called that"):
        build("localhost/mizzen/nothing-of-the-kind")
    with pytest.raises(Failure, match=r"cannot use image registry\.invalid/x"):
        build("registry.invalid/x")


def test_a_cancelled_build_leaves_no_container_and_no_process(
    folders, bare_kernel, function, containers
):
    before = containers()

    async def cancelled():
        source = function(SLEEPER)
        task = asyncio.create_task(
            image.build(source, kernel=bare_kernel, folders=folders, report=silent)
        )
        while len(sleepers()) < 2:
            assert not task.done()
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    until(lambda: not sleepers())
    assert containers() <= before


def test_the_next_build_sweeps_up_after_a_killed_one(build, folders, function, containers):
    before = containers()
    source = function(SLEEPER)
    command = [sys.executable, "-c", BUILD, folders.state, folders.runtime, source]
    builder = subprocess.Popen([str(word) for word in command], start_new_session=True)
    until(lambda: len(sleepers()) == 2)
    builder.kill()
    builder.wait()
    until(lambda: not sleepers())
    with pytest.raises(Failure):
        build(function("FROM localhost/mizzen/python\nRUN false\nCMD x\n"))
    until(lambda: containers() <= before)
    assert not list((folders.cache / "builds").glob(".new-*"))


def test_a_full_disk_is_told_in_one_line(build, folders, example):
    made = build(example)
    roots = folders.cache / "roots"
    shutil.rmtree(roots)
    roots.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(roots)], check=True)
    try:
        with pytest.raises(Failure, match="No space left on device; free some disk space"):
            build(example)
        assert [path.name for path in roots.iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", str(roots)], check=True)
    assert build(example) == made


def test_tools_are_a_folder_made_once(folders):
    def tools():
        return asyncio.run(image.tools_folder("localhost/mizzen/python", folders, silent))

    folder = tools()
    assert (folder / "usr/bin/python3").exists()
    assert tools() == folder
