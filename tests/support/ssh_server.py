"""A server of git repositories over ssh, and ssh's settings for who may enter."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncssh


class Server:
    """Serves the repositories in a folder to whoever has its key.

    asked: what was run by those who entered. hangs_up: as soon as something is asked.
    """

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder = folder
        self.port = 0
        self.asked: list[str] = []
        self.hangs_up = False
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._place = place

    def url(self, name: str) -> str:
        return f"ssh://git@127.0.0.1:{self.port}/{name}"

    def command(self, *, known: bool = True, allowed: bool = True) -> str:
        """Return what git runs as ssh. known: whether it knows the host; allowed: and may enter."""
        key = self._key if allowed else asyncssh.generate_private_key("ssh-ed25519")
        key_file = self._place / f"key-{allowed}"
        key_file.write_bytes(key.export_private_key())
        key_file.chmod(0o600)
        hosts = self._place / f"hosts-{known}"
        public = self._host_key.export_public_key().decode()
        hosts.write_text(f"[127.0.0.1]:{self.port} {public}" if known else "")
        options = {
            "UserKnownHostsFile": hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "IdentityFile": key_file,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        return shlex.join(["ssh", "-F", "/dev/null", *words])

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        allowed = self._key.export_public_key().decode()
        server = await asyncssh.listen(
            "127.0.0.1", 0,
            server_host_keys=[self._host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(allowed),
            process_factory=self._serve,
            encoding=None,
        )  # fmt: skip
        self.port = server.get_port()
        async with server:
            yield

    async def _serve(self, client: asyncssh.SSHServerProcess[bytes]) -> None:
        command = client.command or ""
        self.asked.append(command)
        if self.hangs_up:
            client.channel.get_connection().abort()
            return
        program, path = shlex.split(command)
        process = await asyncio.create_subprocess_exec(
            *shlex.split(program), self.folder / path.lstrip("/"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        asking = asyncio.create_task(_feed(client.stdin, process.stdin))
        await asyncio.gather(
            _copy(process.stdout, client.stdout), _copy(process.stderr, client.stderr)
        )
        asking.cancel()  # who has ended takes no more questions
        await asyncio.wait({asking})
        client.exit(await process.wait())


async def _copy(source: Any, target: Any) -> None:
    while data := await source.read(1 << 16):
        target.write(data)
        await target.drain()


async def _feed(source: Any, target: Any) -> None:
    with contextlib.suppress(ConnectionError):
        await _copy(source, target)
        target.write_eof()


@contextlib.contextmanager
def serving(folder: Path, place: Path) -> Iterator[Server]:
    """Serve what is in a folder. place: for keys."""
    server = Server(folder, place)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with server.listening():
            ready.set()
            await over.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
