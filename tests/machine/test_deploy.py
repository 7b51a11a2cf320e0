"""A pipeline's service in real machines: new versions, one that fails, one that dies, a restart."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from net_daemon import net_daemon
from netns import Namespace
from stepping import Watch, world

from mizzen.control import deploy
from mizzen.control.incidents import all_incidents
from mizzen.engine.clock import HostClock
from mizzen.engine.engine import Engine
from mizzen.engine.pipeline import Pipeline
from mizzen.engine.states import Failed, Ok
from mizzen.engine.step import step
from mizzen.engine.terms import Term
from mizzen.host import process
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.model.image import Image, Kernel, ProcessConfig
from mizzen.model.machine import Machine
from mizzen.network.client import Network
from mizzen.steps import http as ready
from mizzen.steps import machines, network, publish
from mizzen.store import database
from mizzen.store import services as store

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="links need root"),
]

HOST = "192.0.2.1"
PORT = 8080
PREFIX = "10.70.0.0/24"
PATIENCE = 120.0

SCRIPT = """
echo "$NAME at $1" >/index.html
[ "$NAME" = bad ] || echo ok >/healthz
echo "$NAME serves at $1"
httpd -f -p "$1:80" -h /
"""


@dataclass
class Site:
    """A host that is a namespace, its daemon, and where the pipeline keeps its things."""

    host: Namespace
    net: Network
    folders: Folders
    image: Image

    def get(self) -> str:
        """Ask the service from the host itself."""
        connection = http.client.HTTPConnection(HOST, PORT, timeout=30)
        with self.host.entered(), contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().read().decode().strip()

    def run(self, act: Callable[[Engine], Any]) -> None:
        """Do something while the pipeline runs, in the namespace."""

        async def main() -> None:
            async with asyncio.timeout(PATIENCE), self.running() as engine:
                await act(engine)

        world.clear()  # its queues belong to one loop
        with self.host.entered():
            asyncio.run(main())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        with contextlib.closing(database.connect(self.folders.database)) as connection:
            engine = Engine(connection, self.folders, HostClock())
            engine.add(Pipeline(self.website).build())
            try:
                yield engine
            finally:
                await engine.stop()

    def website(self) -> None:
        version: Term[str] = step(Watch, "main", name="main")
        spec = machines.spec(
            "website",
            self.image,
            memory=192,
            env={"NAME": version},
            args=lambda ip: [ip],
        )
        ip = network.address(spec, prefix=PREFIX, exclude=["10.70.0.2"])
        vm = machines.deploy(spec, ip)
        check = ready("/healthz", interval=0.1, attempts=100)
        live = publish.port("website", vm, {PORT: 80}, ready=check, drain="1s")
        machines.monitor(vm)
        publish.collect([live])

    def known(self) -> list[str]:
        with deploy.machines.registry(self.folders) as registry:
            return [one.spec.name for one in registry.everything()]

    def machine(self, name: str) -> Machine:
        found = deploy.find(self.folders, name)
        assert found is not None
        return found

    async def leases(self) -> list[tuple[str, str]]:
        return [(one.tag, one.address) async for one in self.net.addresses()]

    def live(self) -> str:
        with contextlib.closing(database.connect(self.folders.database)) as connection:
            (one,) = [r for r in store.releases(connection, "website") if r.state == "live"]
        return one.machine


def term(engine: Engine, label: str) -> Term[Any]:
    (graph,) = engine.graphs
    (found,) = [one for one in graph.terms.values() if one.label == label]
    return found


async def until(engine: Engine, label: str, condition: Callable[[Any], bool]) -> Any:
    found = term(engine, label)
    await engine.until(lambda: condition(found.state))
    return found.state


def is_live(service: str) -> Callable[[Any], bool]:
    return lambda state: isinstance(state, Ok) and service in str(state.value)


@pytest.fixture
def image(guests, bookworm: Kernel) -> Image:
    initramfs = guests._initramfs(bookworm, "website", SCRIPT, ())
    digest = hashlib.sha256(initramfs.read_bytes()).hexdigest()
    process = ProcessConfig(("/bin/sh", "/script"), ("NAME=none", "PATH=/bin"))
    return Image("test", bookworm, initramfs, None, process, digest)


@pytest.fixture
def site(image: Image, tmp_path: Path) -> Iterator[Site]:
    folders = Folders(tmp_path / "state", tmp_path / "run")
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(contextlib.closing(Namespace()))
        host.ip(f"addr add {HOST}/32 dev lo")
        net = stack.enter_context(net_daemon(host, tmp_path))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("MIZZEN_NET_SOCKET", str(net.path))
        stack.callback(end_all, folders)
        yield Site(host, net, folders, image)


def end_all(folders: Folders) -> None:
    with deploy.machines.registry(folders) as registry:
        for machine in registry.everything():
            process.kill(ProcessId(machine.pid, machine.pid_start), signal.SIGKILL)
            asyncio.run(process.ended(ProcessId(machine.pid, machine.pid_start), 10))


def test_versions_take_each_others_place_and_one_that_fails_changes_nothing(site):
    names: dict[str, str] = {}

    async def act(engine: Engine) -> None:
        world.see("main", "one")
        state = await until(engine, "publish website", is_live("website"))
        names["one"] = state.value.services[0].machine
        assert site.get() == "one at 10.70.0.3"

        world.see("main", "two")
        await until(engine, "publish website", lambda now: is_live("website")(now) and now != state)
        names["two"] = site.live()
        assert site.get() == "two at 10.70.0.4"
        await until(engine, "publish collect", is_live(names["one"]))
        assert site.known() == [names["two"]]
        assert await site.leases() == [(f"machine:{names['two']}", "10.70.0.4")]

        world.see("main", "bad")
        failed = await until(engine, "publish website", lambda now: isinstance(now, Failed))
        assert "was answered with 404, not 200; website-2 stays live" in str(failed.error)
        (incident,) = all_incidents(site.folders)
        assert f"see: mizzen incidents show {incident.id}" in str(failed.error)
        assert any("bad serves at" in line for line in incident.lines)
        assert site.get() == "two at 10.70.0.4"
        names["bad"] = incident.source
        assert sorted(site.known()) == sorted([names["two"], names["bad"]])

    site.run(act)


def test_live_machine_that_dies_is_started_again_where_it_was(site):
    async def act(engine: Engine) -> None:
        world.see("main", "one")
        await until(engine, "publish website", is_live("website"))
        name = site.live()
        first = site.machine(name)
        process.kill(ProcessId(first.pid, first.pid_start), signal.SIGKILL)
        failed = await until(
            engine, "machines monitor website", lambda now: isinstance(now, Failed)
        )
        (incident,) = all_incidents(site.folders, name)
        assert f"see: mizzen incidents show {incident.id}" in str(failed.error)
        await until(engine, "machines monitor website", lambda now: isinstance(now, Ok))
        again = site.machine(name)
        assert again.pid != first.pid
        assert again.spec.network == first.spec.network
        await serves(site, "one at 10.70.0.3")

    site.run(act)


def test_mizzen_that_starts_again_finds_all_as_it_was(site):
    seen: dict[str, Any] = {}

    async def begin(engine: Engine) -> None:
        world.see("main", "one")
        await until(engine, "publish website", is_live("website"))
        seen["machine"] = site.machine(site.live())

    async def again(engine: Engine) -> None:
        world.see("main", "one")
        await until(engine, "publish website", is_live("website"))
        assert site.machine(site.live()) == seen["machine"]
        await until(engine, "machines monitor website", lambda now: isinstance(now, Ok))
        jobs = engine.connection.execute(
            "SELECT operation, count(*) FROM job GROUP BY operation ORDER BY operation"
        ).fetchall()
        counted = dict(jobs)
        assert counted["machines deploy"] == counted["network address"] == counted["publish"] == 1

    site.run(begin)
    assert site.get() == "one at 10.70.0.3", "machines run on without Mizzen"
    site.run(again)


async def serves(site: Site, what: str) -> None:
    """Return once the service answers so, which a machine that boots does not at first."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if await asyncio.to_thread(site.get) == what:
                return
