"""A load on an HTTP server, as a process of its own: in the network that the server is in.

Each line of stdin is a number of requests; the answer is a line with the seconds that they took.
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from mizzen.host.process import child, last_words
from mizzen.model.errors import Failure

from .guest import THERE, Guest

WORKERS = 4
"""Requests under way at the same time."""
PATH = "/page"
SECONDS = 30


@contextlib.contextmanager
def loading(guest: Guest) -> Iterator[Callable[[int], float]]:
    """Yield a function that makes requests to the guest's server and returns the seconds taken."""
    what = "cannot load the guest's HTTP server"
    words = guest.inside(sys.executable, "-m", "mizzen.benches.load", THERE)
    pipe = subprocess.PIPE
    with child(words, what=what, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        requests, answers, complaints = process.stdin, process.stdout, process.stderr

        def load(count: int) -> float:
            requests.write(f"{count}\n".encode())
            answer = answers.readline()
            if not answer:
                raise Failure(what, last_words(complaints.read()) or "it ended")
            return float(answer)

        yield load


def main(host: str) -> None:
    """Answer each line of stdin until it ends."""

    def get(_: int) -> None:
        connection = http.client.HTTPConnection(host, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", PATH)
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.HTTPStatus.OK:
                raise OSError(f"the server answered {answer.status}")

    with ThreadPoolExecutor(WORKERS) as pool:
        for line in sys.stdin:
            began = time.perf_counter()
            list(pool.map(get, range(int(line))))
            sys.stdout.write(f"{time.perf_counter() - began}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
