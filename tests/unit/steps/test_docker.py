"""Operations run for real: buildah on images that hold next to nothing."""

import asyncio
import subprocess

import msgspec
import pytest
from jobs import job
from registry import serving
from repositories import Repository
from stepping import Stepper

from mizzen.builders import image as images
from mizzen.builders import oci, roots, unused
from mizzen.builders.kernel import user_kernel
from mizzen.engine.operation import TemporaryFailure, decode, encode
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.states import Failed
from mizzen.host import trees
from mizzen.host.files import turn
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.image import Image
from mizzen.model.job import JobFilter, JobState
from mizzen.sources.folder import WITHOUT, Folder
from mizzen.steps import docker, git
from mizzen.steps.docker import BuildImage, Context, PullImage, TakeFile
from mizzen.store import jobs

SITE = """\
FROM scratch AS files
COPY hello /bin/hello
FROM files
ARG VERSION=none
ENV VERSION=$VERSION
CMD ["/bin/hello"]
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders that have a kernel already: a file with a bzImage's marks, as nothing boots.

    Images that were made are removed afterwards.
    """
    place = Folders(tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("runtime"))
    kernels = place.cache / "kernels"
    kernels.mkdir(parents=True)
    header = bytearray(0x1000)
    header[0x1FE:0x200] = b"\x55\xaa"
    header[0x202:0x206] = b"HdrS"
    header[0x206:0x208] = (0x20F).to_bytes(2, "little")
    (kernels / "vmlinuz").write_bytes(header)
    kernel = msgspec.json.encode(user_kernel(kernels / "vmlinuz"), enc_hook=encode)
    for suite in ("bookworm", "trixie"):
        (kernels / f"{suite}.json").write_bytes(kernel)
    yield place
    made = (path.stem for path in (place.cache / "images").iterdir())
    forget(*(name.partition("-")[2] for name in made))


@pytest.fixture
def site(tmp_path):
    """A folder that is built."""
    folder = tmp_path / "mizzen-test-site"
    folder.mkdir()
    (folder / "Dockerfile").write_text(SITE)
    (folder / "hello").write_bytes(b"hello" * 1000)
    return folder


def forget(*images):
    subprocess.run(["buildah", "rmi", "--force", *images], capture_output=True, check=False)


def folder_of(path):
    return Context(folder=Folder(path=path, digest=trees.digest(path, WITHOUT)))


def build(folders, folder, log=lambda _: None, **fields):
    defaults = {"path": ".", "dockerfile": "", "text": "", "target": "", "build_args": {}}
    operation = BuildImage(source=folder_of(folder), **defaults | fields)
    return asyncio.run(operation.run(job(folders, log)))


def take(folders, image, path):
    return asyncio.run(TakeFile(image=image, path=path).run(job(folders)))


def test_a_folder_is_built_once(folders, site):
    lines = []
    made = build(folders, site, lines.append)
    assert made.process.arguments == ("/bin/hello",)
    assert made.reference == str(site)
    assert any("COPY hello /bin/hello" in line for line in lines)
    lines.clear()
    assert build(folders, site, lines.append) == made
    assert lines == []


def test_arguments_target_and_dockerfile_make_other_images(folders, site):
    (site / "other").write_text("FROM scratch\nCOPY hello /other\nCMD x\n")
    made = [
        build(folders, site),
        build(folders, site, build_args={"VERSION": "2"}),
        build(folders, site, target="files"),
        build(folders, site, dockerfile="other"),
        build(folders, site, text="FROM scratch\nCOPY hello /text\nCMD x\n"),
    ]
    assert len({image.digest for image in made}) == len(made)
    assert "VERSION=none" in made[0].process.environment
    assert "VERSION=2" in made[1].process.environment
    assert made[2].process.arguments == ()


def test_builds_run_side_by_side(folders, site):
    def operation(version):
        fields = {"path": ".", "dockerfile": "", "text": "", "target": ""}
        arguments = {"VERSION": str(version)}
        return BuildImage(source=folder_of(site), build_args=arguments, **fields)

    async def run():
        return await asyncio.gather(*(operation(n).run(job(folders)) for n in range(3)))

    made = asyncio.run(run())
    for version, image in enumerate(made):
        assert f"VERSION={version}" in image.process.environment


def test_builds_go_on_while_others_remove_images(folders, site, tmp_path):
    """buildah 1.28 ends where an image goes as it looks at all of them."""
    (tmp_path / "other").write_text("FROM scratch\nCOPY hello /other\nCMD x\n")
    removing = subprocess.Popen(
        f"until test -e stop; do"
        f" buildah build --layers --timestamp 0 --iidfile id --file other {site}"
        " && buildah rmi --force $(cut -d: -f2 id); done >said 2>&1",
        shell=True,
        cwd=tmp_path,
    )
    try:
        for number in range(6):
            build(folders, site, build_args={"VERSION": f"removed {number}"})
    finally:
        (tmp_path / "stop").touch()
        removing.wait()


def test_a_folder_of_the_source_is_built(folders, site):
    (site / "a").mkdir()
    (site / "a/Dockerfile").write_text("FROM scratch\nCOPY file /\nCMD x\n")
    (site / "a/file").touch()
    assert build(folders, site, path="a").reference == f"{site}/a"
    for path, why in (("..", "leads out"), ("b", "no folder b")):
        with pytest.raises(Failure, match=why):
            build(folders, site, path=path)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"text": "FROM scratch\n\nCOPY nothing /\n"},
            "Dockerfile:3: COPY nothing / failed: .*no such file",
        ),
        ({"dockerfile": "none"}, "it holds no file none"),
        ({"dockerfile": "../x"}, "leads out"),
        ({"target": "none"}, '"none" was not found'),
        ({"build_args": {"A=B": "C"}}, "'A=B' is no name of a build argument"),
    ],
)
def test_what_cannot_be_built_is_told(folders, site, fields, why):
    with pytest.raises(Failure, match=f"cannot build {site}: .*{why}") as failure:
        build(folders, site, **fields)
    assert not isinstance(failure.value, TemporaryFailure)


def test_a_folder_that_is_no_more_what_it_was_is_built_again(folders, site):
    fields = {"path": ".", "dockerfile": "", "text": "", "target": "", "build_args": {}}
    operation = BuildImage(source=folder_of(site), **fields)
    (site / "hello").write_text("changed")
    with pytest.raises(TemporaryFailure, match="changed meanwhile"):
        asyncio.run(operation.run(job(folders)))


def test_an_image_is_remembered_while_its_files_are_there(folders, site):
    made = build(folders, site)
    encoded = msgspec.json.encode(made, enc_hook=encode)
    assert msgspec.json.decode(encoded, type=Image, dec_hook=decode) == made
    operation = PullImage(reference="x")
    assert asyncio.run(operation.holds(made, job(folders)))
    made.root.rename(made.root.with_name("away"))
    assert not asyncio.run(operation.holds(made, job(folders)))
    made.root.with_name("away").rename(made.root)


def test_a_file_is_taken_out_of_an_image(folders, site):
    image = build(folders, site, target="files")
    taken = take(folders, image, "/bin/hello")
    assert taken.path.read_bytes() == b"hello" * 1000
    assert taken.size == 5000
    (site / "unused").touch()
    assert take(folders, build(folders, site), "/bin/../bin/hello") == taken
    for path, why in (("/none", "there is no /none"), ("bin/hello", "write /bin/hello")):
        with pytest.raises(Failure, match=why):
            take(folders, image, path)


def test_a_full_disk_is_told(folders, site):
    image = build(folders, site)
    kind = folders.cache / "files"
    kind.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(kind)], check=True)
    try:
        with pytest.raises(Failure, match="No space left on device; free some disk space"):
            take(folders, image, "/bin/hello")
    finally:
        subprocess.run(["umount", str(kind)], check=True)


def test_what_is_unused_goes_with_its_image_and_is_built_again(folders, site):
    """All images go that are the same files, and what others are made of stays."""
    text = "FROM scratch\nCOPY hello /unused\nARG VERSION\nENV VERSION=$VERSION\nCMD x\n"
    old = build(folders, site, text=text)
    assert build(folders, site, text=text, build_args={"VERSION": "2"}).root == old.root
    kept = build(folders, site, text="FROM scratch\nCOPY hello /kept\nCMD x\n")
    made = [name for name, root in roots.made(folders) if root == old.root.name]
    assert len(made) == 2
    one = one_of(folders, old)
    asyncio.run(refused_beside_a_build(folders, one))
    assert old.root.is_file()
    unused.remove(one, folders)
    assert all(map(in_storage, made))
    asyncio.run(unused.sweep(folders))
    assert not any(map(in_storage, made))
    assert not images.is_there(old)
    assert images.is_there(kept)
    lines = []
    assert build(folders, site, lines.append, text=text) == old
    assert lines
    with pytest.raises(Failure, match="asked for meanwhile"):
        unused.remove(one, folders)
    assert images.is_there(old)
    unused.remove(one_of(folders, old), folders)
    with pytest.raises(Failure, match="No such file"):
        unused.remove(one, folders)


def one_of(folders, image):
    (one,) = (one for one in unused.everything(folders) if one.path == image.root)
    return one


async def refused_beside_a_build(folders, one):
    async with turn(oci.lock(folders), shared=True):
        with pytest.raises(Failure, match="images are being built"):
            unused.remove(one, folders)
        with pytest.raises(Failure, match="images are being built"):
            await unused.sweep(folders)


def in_storage(identity):
    asked = ["buildah", "inspect", "--type", "image", identity]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def test_what_a_registry_has_now_is_pulled(folders):
    def pull(reference):
        return asyncio.run(PullImage(reference=reference).run(job(folders)))

    with serving() as registry:
        name = f"localhost:{registry.port}/test/site:1"
        pinned = registry.push("test/site", "1", {"hello": b"one"}, Cmd=["/hello"])
        one = pull(name)
        assert one.process.arguments == ("/hello",)
        assert take(folders, one, "/hello").path.read_bytes() == b"one"
        assert pull(pinned).digest == one.digest
        registry.push("test/site", "1", {"hello": b"two"}, Cmd=["/hello"])
        two = pull(name)
        assert take(folders, two, "/hello").path.read_bytes() == b"two"
        with pytest.raises(Failure, match="does not exist here nor at its registry") as missing:
            pull(f"localhost:{registry.port}/test/site:2")
        assert not isinstance(missing.value, TemporaryFailure)
        registry.down = True
        with pytest.raises(TemporaryFailure, match="503"):
            pull(name)
    with pytest.raises(TemporaryFailure, match="connection refused"):
        pull(name)


def test_a_build_is_tried_again_if_what_it_starts_from_cannot_be_reached(folders, site):
    with serving() as registry:
        text = f"FROM localhost:{registry.port}/test/site:1\n"
    with pytest.raises(TemporaryFailure, match=r"Dockerfile:1: FROM .*connection refused"):
        build(folders, site, text=text)


def test_a_folder_becomes_a_file_through_the_engine(folders, site):
    """The whole way, again after a change, and not again after a restart."""
    seen = []

    def taking():
        image = docker.build(site, build_args={"VERSION": "1"})
        docker.file(image, "/bin/hello").map(lambda file: seen.append(file.size))

    stepper = Stepper(folders)

    async def until(size):
        async with asyncio.timeout(120):
            while seen[-1:] != [size]:
                stepper.clock.pass_(1)
                await asyncio.sleep(0.02)

    async def run():
        async with stepper.running(taking) as engine:
            await until(5000)
            (site / "hello").write_text("changed")
            await until(7)
            assert engine.hits == {}
        seen.clear()
        async with stepper.running(taking) as engine:
            await until(7)
            assert engine.hits == {"docker build": 1, "docker file": 1}

    asyncio.run(run())


def test_a_commit_that_changes_nothing_ends_at_the_image(folders, tmp_path):
    repository = Repository(tmp_path / "mizzen-test-site")
    first = repository.commit(Dockerfile=SITE, hello="hello")
    versions, sizes = [], []

    def building():
        source = git.head(repository.path)
        image = docker.build(source)
        source.hash.pair(image).map(lambda both: versions.append(both[0]))
        docker.file(image, "/bin/hello").map(lambda file: sizes.append(file.size))

    stepper = Stepper(folders)

    async def until(condition):
        async with asyncio.timeout(120):
            while not condition():
                stepper.clock.pass_(1)
                await asyncio.sleep(0.02)

    async def run():
        async with stepper.running(building) as engine:
            await until(lambda: sizes)
            second = repository.commit()
            wanted = JobFilter(pipeline="building")
            await until(lambda: versions == [first, second])
            ended = jobs.page(stepper.connection, wanted, before=None, limit=10)
            assert sorted(one.operation for one in ended if one.state is JobState.OK) == [
                "docker build",
                "docker build",
                "docker file",
            ]
            assert engine.hits == {}

    asyncio.run(run())


def test_what_is_given_wrong_is_told_at_its_step():
    def pipeline():
        docker.pull("localhost/x", every="soon")
        docker.build("x", dockerfile="a", dockerfile_text="FROM scratch")
        docker.build(3)
        docker.build("y", build_args={"N": 3})
        docker.file("image", "/x")

    terms = [term for term in Pipeline(pipeline).build().terms.values() if term.drawn]
    told = {term.label: term.compute() for term in terms if term.label != "local path y"}
    why = {
        "docker pull localhost/x": "every: 'soon' is no length of time",
        "docker build x": "dockerfile_text: dockerfile is given too",
        "docker build": "source: a commit or a folder is wanted, not a int",
        "docker build y": "build_args: Expected `str`, got `int`",
        "docker file /x": "image: Expected `object`, got `str`",
    }
    assert told.keys() == why.keys()
    for label, state in told.items():
        assert isinstance(state, Failed)
        assert why[label] in str(state.error)
        assert f"mend {__file__}:" in str(state.error)
