"""Rollouts under load, through the relay that carries publications without root."""

import asyncio
import contextlib
import socket

import pytest
from publishing import LocalStarter, Told, daemon, release, service

from mizzen.model.errors import Failure
from mizzen.network.relay import RelayPlane
from mizzen.publish.rollout import roll_out
from mizzen.publish.starter import Means
from mizzen.store.database import connect

ROLLOUTS = 20


class Load:
    """Asks a published port again and again, each time by a new connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers: list[str] = []
        self._answered = asyncio.Event()

    async def more(self, count: int) -> None:
        """Wait for as many answers more."""
        wanted = len(self.answers) + count
        while len(self.answers) < wanted:
            self._answered.clear()
            await self._answered.wait()

    async def run(self) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                self.answers.append(body.decode())
                self._answered.set()
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.asynccontextmanager
async def relayed(folder):
    starter = LocalStarter()
    async with daemon(folder, RelayPlane()) as network:
        with contextlib.closing(connect(folder / "mizzen.db")) as connection:
            yield Means(connection, network, starter, Told())
        await starter.close()


@contextlib.asynccontextmanager
async def loaded(port: int, clients: int):
    loads = [Load(port) for _ in range(clients)]
    tasks = [asyncio.create_task(load.run()) for load in loads]
    try:
        yield loads
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


def test_twenty_rollouts_fail_no_request(tmp_path):
    async def main():
        web = service(port=free_port())
        async with relayed(tmp_path) as means:
            await roll_out(means, [(web, release("200"))])
            async with loaded(web.ports[0].port, 4) as loads:
                for number in range(2, ROLLOUTS + 2):
                    report = await roll_out(means, [(web, release("200"))])
                    assert report.services[0].dropped == 0
                    # The second was asked for after the switch.
                    await asyncio.gather(*(load.more(2) for load in loads))
                    assert {load.answers[-1] for load in loads} == {f"web-{number}"}
            for load in loads:
                numbers = [int(answer.removeprefix("web-")) for answer in load.answers]
                assert numbers == sorted(numbers)

    asyncio.run(main())


def test_a_rollout_that_fails_under_load_fails_no_request(tmp_path):
    async def main():
        web = service(port=free_port())
        async with relayed(tmp_path) as means:
            await roll_out(means, [(web, release("200"))])
            async with loaded(web.ports[0].port, 4) as loads:
                for _ in range(3):
                    with pytest.raises(Failure, match="web-1 stays live"):
                        await roll_out(means, [(web, release("503"))])
                    await asyncio.gather(*(load.more(2) for load in loads))
            assert {answer for load in loads for answer in load.answers} == {"web-1"}

    asyncio.run(main())


def test_a_connection_that_stays_open_is_kept_until_it_ends(tmp_path):
    async def main():
        web = service(port=free_port(), drain=3600)
        async with relayed(tmp_path) as means:
            await roll_out(means, [(web, release("200"))])
            reader, writer = await asyncio.open_connection("127.0.0.1", web.ports[0].port)
            rolling = asyncio.create_task(roll_out(means, [(web, release("200"))]))
            await means.report.until("Draining web-1")
            writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"web-1")
            writer.close()
            await writer.wait_closed()
            (one,) = (await rolling).services
            assert (one.in_flight, one.drained, one.dropped) == (1, 1, 0)

    asyncio.run(main())
