"""For every test: a folder for temporary files, and a look at the end for what was left behind."""

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from workers import Dealing
from xdist.remote import Producer

from mizzen.host.paths import Folders

# No test judges time: a busy host makes any example slow.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

MARK = "MIZZEN_TEST_SESSION"
"""In the environment of this session, and so of every process that comes of it."""

PATIENCE = 20.0
"""Seconds that what is ending may take to end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("matrix", "kernels, machines and guests that attach is tried on")
    group.addoption("--matrix", action="store_true", help="try all, not only what CI tries")
    group.addoption(
        "--matrix-config",
        action="append",
        default=[],
        metavar="FILE",
        help="with --matrix: also try Linux 6.1 built with this whole configuration",
    )
    group.addoption(
        "--matrix-report", action="store_true", help="write docs/matrix.md from the results"
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Dealing:
    config.option.loadscopereorder = False  # it would put first what has the most tests
    return Dealing(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, int, int]:
    """Give the run a folder for temporary files, and look at its end for what it left behind."""
    if hasattr(config, "workerinput"):  # one of several workers: the run is not its own
        return (yield)
    with (
        tempfile.TemporaryDirectory(prefix="mz-", dir="/tmp", ignore_cleanup_errors=True) as place,
        pytest.MonkeyPatch.context() as patch,
    ):
        temporary = Path(place)  # short: sockets' paths are
        temporary.chmod(0o1777)
        patch.setenv("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # stays where pytest wants it
        patch.setenv(MARK, temporary.name)
        patch.setenv("TMPDIR", place)
        patch.setattr(tempfile, "tempdir", place)
        before = remains(temporary)
        status = yield
        deadline = time.monotonic() + PATIENCE
        while (left := sorted(remains(temporary) - before)) and time.monotonic() < deadline:
            time.sleep(0.2)
    if left:
        print("error: left behind by the tests:\n  " + "\n  ".join(left), file=sys.stderr)
        return status or pytest.ExitCode.TESTS_FAILED
    return status


def remains(temporary: Path) -> set[str]:
    """Tell everything that tests could leave on this host."""
    found = {f"process {told}" for told in processes(temporary.name)}
    found |= {f"network link {path.name}" for path in Path("/sys/class/net").iterdir()}
    found |= {f"file {path}" for path in Path("/dev/shm").glob("*mizzen*")}
    found |= {f"file {path}" for path in temporary.iterdir()}
    found |= {f"container {name}" for name in containers()}
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    places = ("mizzen", "containers/storage", "pytest-of", temporary.name)
    return found | {f"mount {path}" for path in mounts if any(place in path for place in places)}


def processes(mark: str) -> Iterator[str]:
    wanted = f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # gone, or somebody else's
        if wanted in environment and path.name != str(os.getpid()):
            yield f"{path.name}: {command}"


def containers() -> list[str]:
    if shutil.which("buildah") is None:
        return []
    listed = subprocess.run(
        ["buildah", "containers", "--format", "{{.ContainerName}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return listed.stdout.split()


@pytest.fixture(scope="session")
def cache(request: pytest.FixtureRequest) -> Folders:
    """Folders for what is built: kept from one run to the next, as it takes long to make."""
    place = Path(request.config.cache.mkdir("mizzen"))  # type: ignore[union-attr]
    return Folders(place / "state", place / "runtime")


class Terminal:
    """A command on a terminal of its own, as a person has it."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.resize(24, 80)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm"},
        )
        os.close(slave)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    pytest.fail(f"the session ended without {text!r}: {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def on_terminal() -> Iterator[Callable[[list[str], dict[str, str]], Terminal]]:
    """Run commands on terminals, and kill what still runs at the end."""
    opened: list[Terminal] = []

    def run(arguments: list[str], environment: dict[str, str]) -> Terminal:
        opened.append(Terminal(arguments, environment))
        return opened[-1]

    yield run
    for terminal in opened:
        terminal.close()
