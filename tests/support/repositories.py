"""Git repositories for tests, and a server of them."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from trustme import LeafCert

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@test",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@test",
}


class Repository:
    """A repository with a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self("init", "--quiet", "--initial-branch=main")

    def __call__(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            ["git", *map(str, arguments)],
            cwd=self.path, env={**os.environ, **ENVIRONMENT},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, message: str = "a change", **files: str) -> str:
        """Commit files, by name, and return the hash; __ in a name is a dot."""
        for name, content in files.items():
            (self.path / name.replace("__", ".")).write_text(content)
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self("rev-parse", "HEAD")

    def include(self, other: str | Path, path: str) -> None:
        """Add a submodule."""
        allow = ("-c", "protocol.file.allow=always")
        self(*allow, "submodule", "--quiet", "add", "--", str(other), path)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"] or 0)))

    def log_message(self, *arguments: object) -> None:
        pass

    def _serve(self, body: bytes) -> None:
        self.server.asked += 1
        url = urlsplit(self.path)
        if self.server.status != 200:
            self.send_error(self.server.status)
            self.server.refused.set()
        elif self.server.plain:
            file = self.server.folder / url.path.lstrip("/")
            self._answer(file.read_bytes()) if file.is_file() else self.send_error(404)
        else:
            self._smart(url.path, url.query, body)

    def _smart(self, path: str, query: str, body: bytes) -> None:
        environment = {
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            input=body, env={**os.environ, **ENVIRONMENT, **environment},
            capture_output=True, check=False,
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(content, status, headers)

    def _answer(
        self, content: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """Serves the repositories in a folder over HTTP, or HTTPS if there is a certificate.

    status: what everything is answered with, unless it is 200. plain: serve files as they are.
    asked: requests so far. refused: set when one was.
    """

    def __init__(self, folder: Path, certificate: LeafCert | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if certificate is not None:
            self.scheme = "https"
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            certificate.configure_cert(context)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.folder = folder
        self.status = 200
        self.plain = False
        self.asked = 0
        self.refused = threading.Event()

    def url(self, name: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/{name}"


@contextlib.contextmanager
def serving(folder: Path, certificate: LeafCert | None = None) -> Iterator[Server]:
    with Server(folder, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
