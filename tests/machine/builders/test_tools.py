"""Tools made of packages and of images, as root makes them."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from mizzen.builders import oci, toolmaking, tools
from mizzen.builders.buildah import here
from mizzen.model.errors import Failure
from mizzen.model.progress import silent

PROGRAMS = (
    "bash", "sh", "strace", "gdb", "tcpdump", "curl", "ps", "top", "lsof", "less", "vi", "ip", "ss",
    "pstree", "nsenter", "find", "grep", "sed", "awk", "nc", "ping", "tar",
)  # fmt: skip
LOOK = "for name; do command -v $name >/dev/null || echo $name; done; gdb --version; strace -V"


@pytest.fixture(scope="session")
def default(cache):
    """The default tools: they take long to make, so they are kept from one run to the next."""
    return tools.default(cache) or asyncio.run(toolmaking.build_default(cache, silent))


def inside(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = "PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin"
    return subprocess.run(
        ["chroot", root, "/usr/bin/env", "-i", "HOME=/root", path, *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_default_tools_run(default):
    seen = inside(default.path, "sh", "-c", LOOK, "sh", *PROGRAMS)
    assert seen.stdout.startswith("GNU gdb")
    assert seen.stderr == ""
    assert "strace -- version" in seen.stdout


def test_the_default_tools_show_the_guests_users_and_trust_the_usual_authorities(default):
    assert (default.path / "etc/passwd").readlink() == Path("/guest/etc/passwd")
    assert "BEGIN CERTIFICATE" in (default.path / "etc/ssl/certs/ca-certificates.crt").read_text()


def test_the_default_tools_are_small(default):
    assert default.size < 150 << 20  # Debian 12's are 80 MiB, 13's 132
    assert not [path for path in default.path.glob("usr/share/man/**/*") if path.is_file()]


def test_without_a_mirror_building_fails_in_one_line(folders, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    kept = folders.cache / "tools"
    before = {*kept.iterdir()} if kept.exists() else set()
    with pytest.raises(Failure, match=r"cannot make the tools: .*check the network"):
        asyncio.run(toolmaking.build_default(folders, silent))
    assert tools.default(folders) is None
    assert {*kept.iterdir()} - before <= {kept / ".lock"}


@pytest.fixture
def image(folders, tmp_path):
    """An image in buildah's storage, of a tiny folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("a tool")
    name = "localhost/mizzen-test-tools"

    async def made():
        buildah = await here(folders)
        async with buildah.container("scratch", "") as container:
            await buildah("add", container, tmp_path / "bin", "/bin", what="")
            await buildah("commit", "--quiet", container, name, what="")

    asyncio.run(made())
    yield name
    subprocess.run(["buildah", "rmi", "--force", name], capture_output=True, check=False)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_may_hold_an_image(folders, image, tmp_path, containers, kind):
    file = tmp_path / "image.tar"

    async def stored():
        buildah = await here(folders)
        await buildah("push", "--quiet", image, f"{kind}:{file}", what="")
        return (await oci.stored(buildah)).names

    before = asyncio.run(stored())
    found = asyncio.run(toolmaking.gather(str(file), folders, silent))
    assert (found.path / "bin/tool").read_text() == "a tool"
    assert asyncio.run(oci.stored(asyncio.run(here(folders)))).names == before
    assert containers() == set()
