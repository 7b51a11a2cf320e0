"""The demo: a function fails in its microVM, and the caller can enter that very VM."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from mizzen.builders import image
from mizzen.builders.kernel import debian_kernel
from mizzen.host.paths import Folders, example
from mizzen.incidents.rules import rules
from mizzen.incidents.watcher import Watcher
from mizzen.machines.registry import ENDED
from mizzen.model.errors import Failure
from mizzen.model.incident import Incident
from mizzen.model.machine import Machine, Port
from mizzen.model.progress import Report
from mizzen.store import incidents
from mizzen.store.database import connect

from . import machines, network
from .machines import Wish
from .settings import Settings

FUNCTION = "hellooopsie"
PORT = 8080
POLL = 0.1
BOOT_SECONDS = 120
ERROR_SECONDS = 120
GRACE = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that is done. seconds: how long it took."""

    name: str
    told: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The machine whose function has failed, and how."""

    machine: Machine
    incident: Incident


class _Clock:
    """Tells stages with the time since the last one."""

    def __init__(self, tell: Callable[[Stage], None]) -> None:
        self._tell = tell
        self._last = time.monotonic()

    def done(self, name: str, told: str) -> None:
        now = time.monotonic()
        self._tell(Stage(name, told, now - self._last))
        self._last = now


@contextlib.asynccontextmanager
async def failing_function(
    folders: Folders, report: Report, tell: Callable[[Stage], None]
) -> AsyncIterator[Failed]:
    """Build the example, boot it, wait until it fails; stop and remove its machine at the end.

    Raises Failure.
    """
    clock = _Clock(tell)
    kernel = await debian_kernel(folders, report)
    clock.done("kernel", f"Linux {kernel.release}")
    source = example(FUNCTION)
    await image.build(source, kernel=kernel, folders=folders, report=report)
    clock.done("image", f"{FUNCTION}, from its Dockerfile")
    wish = Wish(source=str(source), publish=(Port(0, PORT),))
    machine = await machines.start(wish, folders, report, network.client(folders))
    name = machine.spec.name
    try:
        clock.done("machine", f"{name}, {machine.spec.memory} MiB, by {machine.spec.accel}")
        port = machine.ports[0].host
        answer = await _first_answer(folders, name, port)
        clock.done("function", f"http://127.0.0.1:{port}/ answers: {answer}")
        incident = await _first_error(folders, name)
        clock.done("error", f"{incident.message} (incident {incident.id})")
        yield Failed(machine, incident)
    finally:
        await _remove(folders, name)


async def _remove(folders: Folders, name: str) -> None:
    # A Failure says that somebody else has stopped or removed it already.
    with contextlib.suppress(Failure), machines.registry(folders) as registry:
        if registry.find(name).state not in ENDED:
            await registry.stop(name, GRACE)
        registry.remove(name)


def _check_alive(folders: Folders, name: str) -> None:
    with machines.registry(folders) as registry:
        machine = registry.find(name)
    if machine.state in ENDED:
        raise Failure("the demo failed", f"its machine has ended: {machine.reason}")


async def _first_answer(folders: Folders, name: str, port: int) -> str:
    """Ask until the function answers: the port is there before the guest has booted."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return await asyncio.to_thread(_get, port)
        _check_alive(folders, name)
        await asyncio.sleep(POLL)
    raise Failure(
        "the demo failed",
        f"the function has not answered within {BOOT_SECONDS} s",
        f"see: mizzen machines logs --console {name}",
    )


def _get(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read(200).decode(errors="replace").strip()


async def _first_error(folders: Folders, name: str) -> Incident:
    """Wait until an error of that machine is recorded, by us or by whoever watches already."""
    defaults = Settings().errors
    judge = rules(defaults.levels, defaults.match, defaults.ignore)
    with contextlib.closing(connect(folders.database)) as connection:

        async def watch() -> None:
            with contextlib.suppress(Failure):  # then another mizzen watches
                await Watcher(folders, connection, judge, lambda _: None).run()

        watching = asyncio.create_task(watch())
        try:
            deadline = time.monotonic() + ERROR_SECONDS
            while time.monotonic() < deadline:
                for incident in incidents.everything(connection):
                    if incident.source == name:
                        return incident
                _check_alive(folders, name)
                await asyncio.sleep(POLL)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    raise Failure("the demo failed", f"no error was noticed within {ERROR_SECONDS} s")
