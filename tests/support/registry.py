"""A registry on loopback, as far as pulling needs one. Source: the OCI distribution spec."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Registry:
    """What is served. down: whether it answers 503. asked: paths that it was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.down = False
        self.asked: list[str] = []
        self._blobs: dict[str, tuple[str, bytes]] = {}
        self._tags: dict[str, str] = {}

    def push(self, name: str, tag: str, files: dict[str, bytes], **config: object) -> str:
        """Have a tag name an image of these files; return what names it by its content."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        plain = digest_of(tar.getvalue())
        layer = self._keep(LAYER, gzip.compress(tar.getvalue(), mtime=0))
        described = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [plain]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._keep(CONFIG, json.dumps(described).encode()),
            "layers": [layer],
        }
        digest = str(self._keep(MANIFEST, json.dumps(manifest).encode())["digest"])
        self._tags[f"{name}:{tag}"] = digest
        return f"localhost:{self.port}/{name}@{digest}"

    def find(self, path: str) -> tuple[str, bytes] | None:
        """Return the type and the content of what a path names."""
        match path.removeprefix("/v2/").rsplit("/", 2):
            case [name, "manifests", tag]:
                return self._blobs.get(self._tags.get(f"{name}:{tag}", tag))
            case [_, "blobs", digest]:
                return self._blobs.get(digest)
        return ("application/json", b"{}") if path == "/v2/" else None

    def _keep(self, kind: str, content: bytes) -> dict[str, object]:
        digest = digest_of(content)
        self._blobs[digest] = (kind, content)
        return {"mediaType": kind, "digest": digest, "size": len(content)}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextlib.contextmanager
def serving() -> Iterator[Registry]:
    """Serve a registry while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            found = registry.find(self.path)
            status = 503 if registry.down else 200 if found else 404
            kind, content = found if found and status == 200 else ("application/json", b"{}")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Docker-Content-Digest", digest_of(content))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry = Registry(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
