import asyncio

import pytest

from mizzen.builders import base, buildah, oci
from mizzen.builders.image import as_folder
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig


def test_process_config_joins_entrypoint_and_command():
    config = {
        "Entrypoint": ["/bin/app"],
        "Cmd": ["--serve"],
        "Env": ["A=1", "B=2"],
        "User": "app:app",
        "WorkingDir": "/srv",
        "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}, "99999/tcp": {}},
    }
    assert oci.process_config(config) == ProcessConfig(
        ("/bin/app", "--serve"), ("A=1", "B=2"), "app:app", "/srv", (80, 8080)
    )


def test_process_config_of_a_bare_image_is_root_in_the_root_folder():
    config = {"Entrypoint": None, "Cmd": ["sh"], "User": "", "WorkingDir": ""}
    assert oci.process_config(config) == ProcessConfig(("sh",))


def test_an_image_may_name_no_command():
    assert oci.process_config({}).arguments == ()


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("localhost/mizzen/base", "localhost/mizzen/base:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("docker.test/x:1", "docker.test/x:1"),
        ("docker.test/x@sha256:00", "docker.test/x@sha256:00"),
    ],
)
def test_a_reference_without_tag_means_latest(reference, full):
    assert oci.full_name(reference) == full


def test_base_images_are_known_with_and_without_tag():
    assert base.made_here("localhost/mizzen/python:latest") == "localhost/mizzen/python"
    assert base.made_here("localhost/mizzen/base") == "localhost/mizzen/base"
    assert base.made_here("localhost/mizzen/functions/x") is None


def test_a_full_disk_is_told_as_such():
    output = 'Error: building at STEP "COPY . .": write /x: no space left on device\n'
    assert buildah.explain(output) == ("No space left on device", "free some disk space")


def test_a_missing_helper_names_its_package():
    _, fix = buildah.explain('Error: could not find "netavark" in one of [/usr/lib/podman].\n')
    assert fix == "run: apt-get install netavark"


def test_only_ended_processes_leave_marks_that_count_as_abandoned():
    assert not buildah.abandoned(buildah.mark())
    assert buildah.abandoned("mizzen-1-1-0")  # process 1 did not start at tick 1
    assert not buildah.abandoned("python-working-container")


def test_container_whose_making_was_killed_is_swept_up(tmp_path):
    place = ("--root", f"{tmp_path}/root", "--runroot", f"{tmp_path}/run")
    made = buildah.Buildah((), ("--storage-driver", "vfs", *place), "chroot")

    async def listed() -> list[str]:
        words = ("containers", "--all", "--quiet", "--notruncate")
        return (await made(*words, what="cannot list")).text.split()

    async def swept() -> list[str]:
        for owner in ("mizzen-1-1-0", buildah.mark()):
            words = ("--add-host", f"{owner}:127.0.0.1", "scratch")
            await made("from", *words, what="cannot make a container")
        for name in await listed():
            record = tmp_path / "root/vfs-containers" / name / "userdata/buildah.json"
            record.rename(record.with_name(".tmp-buildah.json123"))
        await buildah.sweep(made)
        return await listed()

    (left,) = asyncio.run(swept())
    record = tmp_path / "root/vfs-containers" / left / "userdata/.tmp-buildah.json123"
    assert "mizzen-1-1-0" not in record.read_text(), "another's that is being made stays"


def test_a_source_is_a_folder_or_a_reference(tmp_path):
    assert as_folder(str(tmp_path)) == tmp_path
    assert as_folder("docker.test/x") is None
    with pytest.raises(Failure, match="there is no such folder"):
        as_folder("./nowhere")
