"""A website's pipeline, and its ``mizzen up`` as a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

import mizzen
from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId, child, ended, kill
from mizzen.model.errors import Failure

from . import place, remains, website
from .website import Inbox, Repository

WHAT = "cannot keep the benchmark's pipeline"
LINE_MAX = 1 << 20

STORAGE = '[storage]\ndriver = "overlay"\nrunroot = "{0}/run"\ngraphroot = "{0}/graph"\n'
"""Containers' storage of the benchmark's own: containers-storage.conf(5)."""


class Step(NamedTuple):
    """What was told of a step last. detail: in words, such as its value."""

    state: str
    detail: str


class _Line(msgspec.Struct):
    label: str
    state: str
    detail: str


class Up:
    """One pipeline's process; the next one goes on where it was killed.

    environment: added to this process's. log: a file that takes what it complains of.
    steps: by label. began, went_on: when it was started, and when it knew its first value; None
    before, in seconds of the monotonic clock.
    """

    def __init__(self, file: Path, environment: Mapping[str, str], log: Path) -> None:
        self.steps: dict[str, Step] = {}
        self.began = 0.0
        self.went_on: float | None = None
        self._file = file
        self._environment = environment
        self._log = log
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def start(self, package: Path | None = None) -> None:
        """Start it in this thread's network namespace.

        package: a folder with the package in it that is run; None runs this one.
        """
        self.steps.clear()
        self.went_on = None
        log = self._stack.enter_context(self._log.open("ab"))
        place = {"PYTHONPATH": str(package)} if package is not None else {}
        command = [sys.executable, "-m", "mizzen", "up", str(self._file), "--json"]
        self.began = time.monotonic()
        self._process = self._stack.enter_context(
            child(
                command, what=WHAT, stdout=subprocess.PIPE, stderr=log.fileno(),
                env={**self._environment, **place},
            )
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self._process))

    async def kill(self) -> None:
        """End it as nothing can prevent, and return once it has.

        Raises Failure if it had ended by itself.
        """
        if self._process is not None:
            await self._end(signal.SIGKILL, -signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end, and return once it has. Raises Failure if it did not end well."""
        if self._process is not None:
            await self._end(signal.SIGTERM, 0)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for what changes with a step's state; False if it is not so after seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _end(self, number: signal.Signals, wanted: int) -> None:
        assert self._process is not None
        assert self._reading is not None
        self._process.send_signal(number)
        await self._reading
        status = await asyncio.to_thread(self._process.wait)
        self._stack.close()
        self._process = None
        if status != wanted:
            raise Failure(WHAT, f"it ended with status {status}", f"see {self._log}")

    async def _read(self, process: subprocess.Popen[bytes]) -> None:
        reader = asyncio.StreamReader(LINE_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        assert process.stdout is not None
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: protocol, process.stdout
        )
        try:
            while (line := await reader.readline()).endswith(b"\n"):
                self._take(msgspec.json.decode(line, type=_Line))
        finally:
            transport.close()

    def _take(self, line: _Line) -> None:
        if line.state == "ok" and self.went_on is None:
            self.went_on = time.monotonic()
        self.steps[line.label] = Step(line.state, line.detail)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a pipeline has. folders: its own. temporary: of programs that it runs."""

    host: NetworkNamespace
    daemon: place.Daemon
    folder: Path
    folders: Folders
    temporary: Path
    environment: dict[str, str]
    repository: Repository
    inbox: Inbox
    up: Up


@contextlib.asynccontextmanager
async def kept(
    folders: Folders, folder: Path, host: NetworkNamespace, daemon: place.Daemon
) -> AsyncIterator[Kept]:
    """Yield a pipeline that is not run yet; what it has started is ended after the block.

    folders: have the kernel for images. host: what this thread is in. folder: temporary.
    """
    own = Folders(folder / "state", folder / "run")
    own.cache.mkdir(parents=True)
    (own.cache / "kernels").symlink_to(folders.cache / "kernels")
    temporary = folder / "temporary"
    temporary.mkdir()
    storage = folder / "storage.conf"
    storage.write_text(STORAGE.format(folder / "containers"))
    environment = {
        "MIZZEN_STATE": str(own.state),
        "MIZZEN_RUNTIME": str(own.runtime),
        "MIZZEN_NET_SOCKET": str(daemon.socket),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "TMPDIR": str(temporary),
    }
    repository = Repository(folder / "repository", await website.kernel(folder / "kernel"))
    await repository.begin()
    inbox = Inbox()
    async with inbox.open():
        file = folder / "website.py"
        file.write_text(
            website.PIPELINE.format(
                repository=str(repository.folder), name=website.NAME, port=website.PORT,
                inbox=inbox.url,
            )
        )  # fmt: skip
        up = Up(file, environment, folder / "up.log")
        try:
            yield Kept(host, daemon, folder, own, temporary, environment, repository, inbox, up)
        finally:
            try:
                await up.kill()
            finally:
                for machine in remains.known_machines(own):
                    vmm = ProcessId(machine.pid, machine.pid_start)
                    kill(vmm, signal.SIGKILL)
                    await ended(vmm)


def newer(folder: Path) -> Path:
    """Write a package like this one, but of a higher version, into a folder and return that.

    What takes a file out of an image is of another version too, so that its results are made anew.
    """
    made = folder / "mizzen"
    shutil.copytree(
        Path(mizzen.__file__).parent, made, ignore=shutil.ignore_patterns("__pycache__")
    )
    _edit(made / "__init__.py", r'(__version__ = ").*(")', r"\g<1>999.0.0\2")
    _edit(
        made / "steps/docker.py", r'(    id: ClassVar\[str\] = "docker file"\n)',
        r"\1    version: ClassVar[int] = 999\n",
    )  # fmt: skip
    return folder


def _edit(file: Path, pattern: str, into: str) -> None:
    text, count = re.subn(pattern, into, file.read_text())
    assert count == 1
    file.write_text(text)
