"""Network namespaces without names are there while somebody has them."""

from __future__ import annotations

import asyncio
import socket

from mizzen.host.namespaces import NetworkNamespace
from mizzen.host.process import run


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


async def _up(namespace: NetworkNamespace) -> None:
    await run(*namespace.inside("ip", "link", "set", "lo", "up"), what="cannot set up")


async def _listed(namespace: NetworkNamespace) -> str:
    return (await run(*namespace.inside("ip", "-o", "link"), what="cannot list")).text


def test_a_new_one_has_a_loopback_and_nothing_else():
    made = NetworkNamespace()
    try:
        outside = names()
        with made.entered():
            assert names() == {"lo"}
        assert names() == outside
    finally:
        made.close()


def test_commands_and_sockets_of_it_stay_in_it():
    one, other = NetworkNamespace(), NetworkNamespace()
    try:
        asyncio.run(_up(one))
        asyncio.run(_up(other))
        with one.entered():
            listener = socket.create_server(("127.0.0.1", 0))
        with listener, other.entered():
            # Another one's port is free here.
            socket.create_server(listener.getsockname()).close()
        assert asyncio.run(_listed(one)).count("\n") == 0
        assert one.path.exists()
    finally:
        one.close()
        other.close()
