"""Serves index.html, with the version in it that it was built as."""

import argparse
import os
import signal
import string
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = os.environ.get("VERSION", "unknown")
PAGE = string.Template(Path("index.html").read_text()).substitute(VERSION=VERSION)


class Handler(BaseHTTPRequestHandler):
    """Answers GET of / and /healthz."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer(HTTPStatus.OK, "text/html", PAGE)
        elif self.path == "/healthz":
            self.answer(HTTPStatus.OK, "text/plain", "ok\n")
        else:
            self.answer(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")

    def answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """A queue long enough for a burst."""

    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default=":80", metavar="ADDRESS:PORT")
    address, _, port = parser.parse_args().listen.rpartition(":")
    server = Server((address, int(port)), Handler)
    # shutdown() waits for serve_forever(), which this very thread is in.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"version {VERSION} listens at {address or '*'} port {port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
