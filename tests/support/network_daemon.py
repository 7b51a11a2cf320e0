"""A network daemon's server inside the test: real socket, real database, packets in memory."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from memory_plane import MemoryPlane

from mizzen.host import sockets
from mizzen.network.client import Network
from mizzen.network.keeper import Keeper
from mizzen.network.server import Guard, Server
from mizzen.store import database
from mizzen.store.network import MIGRATIONS


@dataclass(frozen=True)
class Running:
    """A server that answers, and what it does it with."""

    network: Network
    plane: MemoryPlane
    keeper: Keeper
    connection: sqlite3.Connection


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(database.connect(folder / "network.db", MIGRATIONS)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # no test loses its power
        yield connection


@contextlib.asynccontextmanager
async def running(
    folder: Path, plane: MemoryPlane | None = None, guard: Guard | None = None, mode: int = 0o660
) -> AsyncIterator[Running]:
    """Answer at folder/net.sock while the block lasts."""
    plane = plane or MemoryPlane()
    path = folder / "net.sock"
    with opened(folder) as connection:
        keeper = Keeper(connection, plane)
        await keeper.begin()
        with sockets.listen_packets(path, mode, None, 256) as listener:
            serving = asyncio.create_task(Server(keeper, guard or Guard()).serve(listener))
            try:
                yield Running(Network(path), plane, keeper, connection)
            finally:
                serving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await serving
