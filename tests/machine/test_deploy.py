"""A pipeline of unikernels: new versions, one that fails, one that dies, and a restart."""

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

import hello
import pytest
from net_daemon import net_daemon
from netns import Namespace
from stepping import Watch, world

from mizzen.control import deploy, down
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
from mizzen.model.image import Image, Kernel
from mizzen.model.machine import Machine
from mizzen.model.progress import silent
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
        said = version.map(lambda one: "--sick" if one == "bad" else f"--name={one}")
        args = [lambda ip: f"--listen={ip}:80", said]
        spec = machines.spec("website", self.image, memory="16M", args=args, ports=[80])
        ip = network.address(spec, prefix=PREFIX, exclude=["10.70.0.2"])
        vm = machines.deploy(spec, ip)
        check = ready("/healthz", interval=0.1, attempts=40)
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
def site(tmp_path: Path) -> Iterator[Site]:
    with hosted(tmp_path) as found:
        yield found


@contextlib.contextmanager
def hosted(tmp_path: Path, *options: str) -> Iterator[Site]:
    """Yield a site. options: the network daemon's."""
    file = hello.build(tmp_path / "source")
    kernel = Kernel(file, "", None, hashlib.sha256(file.read_bytes()).hexdigest())
    image = Image("hello", kernel, None, None, None, kernel.digest)
    folders = Folders(tmp_path / "state", tmp_path / "run")
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(contextlib.closing(Namespace()))
        host.ip(f"addr add {HOST}/32 dev lo")
        net = stack.enter_context(net_daemon(host, tmp_path, *options))
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
        assert "one" in site.get()

        world.see("main", "two")
        await until(engine, "publish website", lambda now: is_live("website")(now) and now != state)
        names["two"] = site.live()
        assert "two" in site.get()
        await until(engine, "publish collect", is_live(names["one"]))
        assert site.known() == [names["two"]]
        assert await site.leases() == [(f"machine:{names['two']}", "10.70.0.4")]

        world.see("main", "bad")
        failed = await until(engine, "publish website", lambda now: isinstance(now, Failed))
        assert "was answered with 503, not 200; website-2 stays live" in str(failed.error)
        (incident,) = all_incidents(site.folders)
        assert f"see: mizzen incidents show {incident.id}" in str(failed.error)
        assert any("answers at 10.70.0.3" in line for line in incident.lines)
        assert "two" in site.get()
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
        await serves(site, "one")

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
    assert "one" in site.get(), "machines run on without Mizzen"
    site.run(again)


def test_with_user_networking_it_is_the_same_and_a_machine_keeps_its_ports(tmp_path):
    with hosted(tmp_path, "--user") as site:

        async def act(engine: Engine) -> None:
            world.see("main", "one")
            await until(engine, "publish website", is_live("website"))
            first = site.machine(site.live())
            await serves(site, "one")
            process.kill(ProcessId(first.pid, first.pid_start), signal.SIGKILL)
            await until(engine, "machines monitor website", lambda now: isinstance(now, Failed))
            await until(engine, "machines monitor website", lambda now: isinstance(now, Ok))
            assert site.machine(site.live()).ports == first.ports
            await serves(site, "one")
            world.see("main", "two")
            await until(engine, "publish collect", is_live(first.spec.name))
            await serves(site, "two")

        site.run(act)
        with site.host.entered():
            asyncio.run(down.down(site.folders, "website", silent, dry_run=False))
        assert site.known() == []
        with pytest.raises(ConnectionRefusedError):
            site.get()


async def serves(site: Site, what: str) -> None:
    """Return once the service answers so, which a machine that boots does not at first."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if what in await asyncio.to_thread(site.get):
                return
