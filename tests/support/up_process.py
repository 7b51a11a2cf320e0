"""The real ``mizzen up`` as a process, on a pipeline file that a test writes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mizzen
from mizzen.host.paths import Folders

PATIENCE = 60.0

HEAD = """
from typing import ClassVar
from pathlib import Path

from mizzen import Level, Pool, pipeline
from mizzen.engine.job import Job
from mizzen.engine.operation import Build, Publication
from mizzen.engine.policy import Policy
from mizzen.engine.step import step
from mizzen.host.process import run
from mizzen.model.errors import Failure


class Make(Build[str], frozen=True, kw_only=True):
    id: ClassVar[str] = "make"
    noun: ClassVar[str] = "image"
    policy: ClassVar[Policy] = Policy(level=Level.LOW, pool=Pool("make", 2))
    name: str
    pipe: Path

    async def run(self, job: Job) -> str:
        job.log(f"making {self.name}")
        read = await run("cat", self.pipe, what=f"cannot make {self.name}")
        if read.text == "no":
            raise Failure(f"cannot make {self.name}", "it was told no", "say yes")
        return read.text


class Put(Publication[str], frozen=True, kw_only=True):
    id: ClassVar[str] = "put"
    noun: ClassVar[str] = "port"
    policy: ClassVar[Policy] = Policy(level=Level.HIGH)
    name: str
    what: str

    @property
    def key(self) -> str:
        return self.name

    async def run(self, job: Job) -> str:
        return f"{self.name} is {self.what}"


def make(name):
    return step(Make, name, name=name, pipe=Path(__file__).parent / f"{name}.pipe")


def put(name, what):
    return step(Put, name, name=name, what=what)
"""
"""Operations whose end a test decides: ``make`` reads a pipe that the test writes."""


class UpProcess:
    """``mizzen up --json`` with folders of its own, in a folder that holds its pipeline file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders = Folders(folder / "state", folder / "run")
        self.file = folder / "site.py"
        settings = folder / "mizzen.toml"
        settings.write_text('[webhooks]\nsecret = "hush"\n')
        self.environment = {
            **os.environ,
            "MIZZEN_STATE": str(self.folders.state),
            "MIZZEN_RUNTIME": str(self.folders.runtime),
            "MIZZEN_CONFIG": str(settings),
            "PYTHONPATH": str(Path(mizzen.__file__).parents[1]),
            "COLUMNS": "200",
        }
        self._process: subprocess.Popen[str] | None = None

    def write(self, body: str, *pipes: str) -> None:
        """Write the pipeline file, and make the pipes that its steps read."""
        self.file.write_text(HEAD + body)
        for name in pipes:
            os.mkfifo(self.folder / f"{name}.pipe")

    def say(self, name: str, text: str) -> None:
        """End a ``make`` that has begun or begins next."""
        (self.folder / f"{name}.pipe").write_text(text)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str, json: bool = True) -> None:
        """Start it; return when it says that it is ready."""
        assert self._process is None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mizzen", "up", str(self.file), *["--json"] * json, *options],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        assert "Ctrl-C" in said, said

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def until(self, label: str, state: str) -> dict[str, Any]:
        """Return the next change of a step to that state, once it comes; running: as a job."""
        while line := self.line():
            change: dict[str, Any] = json.loads(line)
            begins = state == "running" and not change["job"]
            if (change["label"], change["state"]) == (label, state) and not begins:
                return change
        raise AssertionError(f"it ended before {label} was {state}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its status; 0 if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        self.said = process.communicate(timeout=PATIENCE)[1]
        return process.returncode

    def read_no_more(self) -> None:
        """Close the pipe that it prints into."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ended(self) -> int:
        """Wait until it has ended by itself, and return its status."""
        assert self._process is not None
        process, self._process = self._process, None
        with process:
            return process.wait(PATIENCE)

    def close(self) -> None:
        """Kill it, and end what has begun and was left to itself."""
        self.end(signal.SIGKILL)
        for pipe in self.folder.glob("*.pipe"):
            with contextlib.suppress(OSError):  # nobody reads it
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))

    def mizzen(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Mizzen's."""
        return subprocess.run(
            [sys.executable, "-m", "mizzen", *words],
            env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip

    def told(self, *words: str) -> Any:
        """Run a command that succeeds, with --json, and return what it says."""
        done = self.mizzen(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *words: str) -> str:
        """Run a command that fails, and return the one line that it says."""
        done = self.mizzen(*words)
        assert done.returncode in {1, 2}, done.stdout
        (line,) = done.stderr.splitlines()
        return line
