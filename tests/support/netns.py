"""Network namespaces without names, and services and clients in them.

A namespace lives as long as its descriptor, so nothing is left behind by whoever is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

PATIENCE = 20.0
"""Seconds for what must come."""

GLANCE = 0.4
"""Seconds for what must not come."""


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self) -> None:
        before = _current()
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            try:
                self.descriptor = _current()
                self._ip("link set lo up")
            finally:
                _check(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace while the block lasts; sockets made there stay there."""
        before = _current()
        try:
            _check(_libc.setns(self.descriptor, _CLONE_NEWNET))
            try:
                yield
            finally:
                _check(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)

    def ip(self, *lines: str) -> None:
        """Run lines of ``ip``, in one process."""
        with self.entered():
            self._ip(*lines)

    def show(self, *arguments: str) -> str:
        with self.entered():
            done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        return done.stdout

    def connect(self, other: Namespace, name: str, other_name: str) -> None:
        """Lay a cable: an interface here, one there."""
        number = os.getpid()
        path = f"/proc/{number}/fd/{other.descriptor}"
        self.ip(f"link add {name} type veth peer name {other_name} netns {path}")

    def socket(self, address: str, kind: int) -> socket.socket:
        """Make a socket of an address's family."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.entered():
            return socket.socket(family, kind)

    def close(self) -> None:
        os.close(self.descriptor)

    @staticmethod
    def _ip(*lines: str) -> None:
        text = "\n".join(lines)
        subprocess.run(["ip", "-batch", "-"], input=text, check=True, text=True)


class Service:
    """Answers whoever asks at an address and port with its name and the asker's address.

    address: "" is any, of IPv4 and IPv6.
    """

    def __init__(self, where: Namespace, name: str, port: int, *, udp: bool = False) -> None:
        self.name = name
        self.served = 0
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        self._udp = udp
        self._server = where.socket("::", kind)
        self._server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("::", port))
        if not udp:
            self._server.listen(128)
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        self._server.close()
        self._stopped.close()

    def _answer(self, peer: str) -> bytes:
        self.served += 1
        return f"{self.name} {peer.removeprefix('::ffff:')}".encode()

    def _serve(self) -> None:
        peers: dict[socket.socket, str] = {}
        while True:
            readable = select.select([self._server, self._stopped, *peers], [], [])[0]
            if self._stopped in readable:
                break
            for one in readable:
                if one in peers:
                    self._serve_peer(one, peers)
                elif self._udp:
                    _, peer = one.recvfrom(65536)
                    one.sendto(self._answer(peer[0]), peer)
                else:
                    connection, peer = one.accept()
                    peers[connection] = peer[0]
        for connection in peers:
            connection.close()

    def _serve_peer(self, connection: socket.socket, peers: dict[socket.socket, str]) -> None:
        with contextlib.suppress(OSError):
            if connection.recv(65536):
                connection.sendall(self._answer(peers[connection]))
                return
        connection.close()
        del peers[connection]


def dial(
    where: Namespace, address: str, port: int, *, udp: bool = False, source: str = "",
    patience: float = PATIENCE,
) -> socket.socket | None:  # fmt: skip
    """Return a socket that is connected, None if it cannot be."""
    client = where.socket(address, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    client.settimeout(patience)
    try:
        if source:
            client.bind((source, 0))
        client.connect((address, port))
    except OSError:
        client.close()
        return None
    return client


def say(client: socket.socket, patience: float = PATIENCE, what: bytes = b"?") -> str:
    """Say something and return the answer, "" if there is none."""
    client.settimeout(patience)
    try:
        client.sendall(what)
        return client.recv(65536).decode()
    except OSError:
        return ""


def ask(
    where: Namespace, address: str, port: int, *, udp: bool = False, source: str = "",
    patience: float = PATIENCE,
) -> str:  # fmt: skip
    """Ask a service once; return who answered and whom they saw, "" if nobody did."""
    client = dial(where, address, port, udp=udp, source=source, patience=patience)
    if client is None:
        return ""
    with client:
        return say(client, patience)
