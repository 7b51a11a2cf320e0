"""Hosteds' pipelines under the real ``mizzen up``: a host, somebody outside, and who asks it."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from net_daemon import net_daemon
from netns import Namespace
from repositories import Repository
from up_process import UpProcess

from mizzen.host.paths import Folders
from mizzen.store import database

EXAMPLES = Path(__file__).parents[2] / "examples/pipelines"
MADE = shutil.ignore_patterns("*.git", "__pycache__")
"""What using an example where it lies leaves there."""

HOST = "192.0.2.1"
PATIENCE = 60.0


@dataclass(frozen=True)
class Site:
    """A host with a network daemon, somebody outside, and what was built before."""

    host: Namespace
    outside: Namespace
    net: Path
    built: Folders


@contextlib.contextmanager
def site(built: Folders) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="net-")))
        host = stack.enter_context(closing(Namespace()))
        outside = stack.enter_context(closing(Namespace()))
        host.connect(outside, "up0", "eth0")
        host.ip("link set up0 up", f"addr add {HOST}/24 dev up0")
        outside.ip("link set eth0 up", "addr add 192.0.2.2/24 dev eth0")
        net = stack.enter_context(net_daemon(host, place))
        yield Site(host, outside, net.path, built)


class Hosted(UpProcess):
    """``mizzen up`` on a site, with what every image needs built already."""

    def __init__(self, folder: Path, site: Site) -> None:
        super().__init__(folder)
        self.site = site
        self.environment["MIZZEN_NET_SOCKET"] = str(site.net)
        self.folders.cache.mkdir(parents=True)
        for kind in ("apt", "kernels", "initramfs"):
            (site.built.cache / kind).mkdir(parents=True, exist_ok=True)
            (self.folders.cache / kind).symlink_to(site.built.cache / kind)
        with (
            closing(database.connect(site.built.database)) as known,
            closing(database.connect(self.folders.database)) as own,
        ):
            facts = known.execute("SELECT key, value FROM fact").fetchall()
            own.executemany("INSERT INTO fact VALUES (?, ?)", facts)

    def start(self, *options: str, json: bool = True) -> None:
        with self.site.host.entered():
            super().start(*options, json=json)

    def machines(self) -> dict[str, int]:
        """Return the machines that run, with their hypervisors' pids."""
        listed = self.told("machines", "list")
        return {one["spec"]["name"]: one["pid"] for one in listed if one["state"] == "running"}

    def end_all(self) -> None:
        """End it, its services and its machines."""
        self.close()
        for one in self.told("publish", "list"):
            self.told("publish", "remove", one["service"]["name"])
        for name in self.machines():
            self.told("machines", "stop", name, "--grace", "0")
        for one in self.told("machines", "list"):
            self.mizzen("machines", "remove", one["spec"]["name"])
        left = [self.told(*words) for words in (("machines", "list"), ("ip", "list"))]
        assert left == [[], []]


@contextlib.contextmanager
def hosted(site: Site) -> Iterator[Hosted]:
    with tempfile.TemporaryDirectory(prefix="up-") as folder:
        one = Hosted(Path(folder), site)
        try:
            yield one
        finally:
            one.end_all()


@contextlib.contextmanager
def example(name: str, site: Site) -> Iterator[Hosted]:
    """Yield ``mizzen up`` on a copy of an example's folder."""
    with hosted(site) as one:
        shutil.copytree(EXAMPLES / name, one.folder / name, ignore=MADE)
        one.file = one.folder / name / "pipeline.py"
        yield one


class Pushed:
    """The website's repository, and a work tree of whoever pushes to it."""

    def __init__(self, up: Hosted) -> None:
        self.bare = up.file.parent / "website.git"
        subprocess.run([up.file.parent / "prepare"], check=True)
        self.work = Repository(up.folder / "work")
        self.work("pull", "--quiet", self.bare, "main")

    @property
    def version(self) -> str:
        """What the newest commit calls itself, in its page and in its log."""
        return f"version {self.work('rev-parse', '--short=12', 'HEAD')}"

    def read(self, name: str) -> str:
        return (self.work.path / name).read_text()

    def push(self, **files: str) -> str:
        """Commit files and push them; return the version."""
        self.work.commit(**files)
        self.work("push", "--quiet", self.bare, "HEAD:main")
        return self.version


class Client:
    """Does something again and again from outside, until it is told to end.

    came: what came of it, in order. lost: what failed.
    """

    def __init__(self, site: Site, do: Callable[[int], str]) -> None:
        self.came: list[str] = []
        self.lost: list[Exception] = []
        self._site = site
        self._do = do
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def until(self, text: str) -> None:
        """Return once the newest that came holds a text."""
        with self._changed:
            came = self._changed.wait_for(lambda: text in "".join(self.came[-1:]), PATIENCE)
        assert came, self.came[-1:]

    def _go_on(self) -> None:
        number = 0
        with self._site.outside.entered():
            while not self._ending.is_set():
                number += 1
                try:
                    came = self._do(number)
                except (OSError, http.client.HTTPException, smtplib.SMTPException) as error:
                    self.lost.append(error)
                    continue
                with self._changed:
                    self.came.append(came)
                    self._changed.notify_all()


def page(_: int = 0) -> str:
    """Return the website's page, asked for by a connection of its own."""
    with closing(http.client.HTTPConnection(HOST, 8080, timeout=30)) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
        text = answer.read().decode()
    if answer.status != 200:
        raise OSError(f"answered with {answer.status}: {text}")
    return text


class Log:
    """Follows what a machine writes, until that has ended and is gone."""

    def __init__(self, up: Hosted, machine: str) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mizzen", "machines", "logs", "-f", machine],
            env=up.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Log:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._thread.join()

    def until(self, text: str) -> None:
        """Return once a line holds a text."""
        with self._changed:
            came = self._changed.wait_for(lambda: any(text in one for one in self.lines), PATIENCE)
        assert came, self.lines

    def ended(self) -> None:
        """Wait until the machine has ended."""
        self._process.wait(PATIENCE)
        self._thread.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._changed:
                    self.lines.append(line)
                    self._changed.notify_all()
