"""An HTTP function that greets, counts, and complains every 15 seconds."""

import itertools
import os
import signal
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PERIOD = 15  # seconds between errors
visits = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of / and /healthz."""

    protocol_version = "HTTP/1.1"
    server_version = "hellooopsie"
    timeout = 30

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self.answer(HTTPStatus.OK, f"Hello from hellooopsie, visitor {next(visits)}!\n")
        elif path == "/healthz":
            self.answer(HTTPStatus.OK, "ok\n")
        else:
            self.answer(HTTPStatus.NOT_FOUND, "not found\n")

    do_HEAD = do_GET

    def answer(self, status: HTTPStatus, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, form: str, *values: object) -> None:
        line = (form % values).encode("unicode_escape").decode()  # a client chose some of it
        print(self.address_string(), line, flush=True)


def complain(stop: threading.Event) -> None:
    while not stop.wait(PERIOD):
        print("ERROR: some periodic error", file=sys.stderr, flush=True)


def main() -> None:
    stop = threading.Event()
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler)

    def end(*_: object) -> None:
        stop.set()
        # shutdown() waits for serve_forever(), which this very thread is in.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    threading.Thread(target=complain, args=(stop,), daemon=True).start()
    print(f"listening on port {server.server_port}", flush=True)
    with server:
        server.serve_forever()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
