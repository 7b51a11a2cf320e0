"""A shell on the guest's serial console: a way to look at the guest that no session disturbs."""

from __future__ import annotations

import select
import socket
import time

from mizzen.model.errors import Failure

ANSWER_SECONDS = 120
WHAT = "cannot go on with the benchmark"


class Console:
    """The host's end of the console's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._seen = b""
        self._count = 0

    def run(self, command: str) -> str:
        """Return what a command prints. Raises Failure if the guest has ended or hangs."""
        self._count += 1
        end = f"@@{self._count}@@"
        # The end in two words, or it would be found in what was typed.
        self._connection.sendall(f"{command}\necho '@@'{self._count}@@\n".encode())
        return self.wait_for(end).replace("\r", "").removesuffix(end).strip()

    def timed(self, command: str) -> float:
        """Return the seconds that a command takes, by the host's clock."""
        began = time.perf_counter()
        self.run(command)
        return time.perf_counter() - began

    def wait_for(self, text: str, seconds: float = ANSWER_SECONDS) -> str:
        """Return everything up to a text, and the text."""
        wanted = text.encode()
        deadline = time.monotonic() + seconds
        while wanted not in self._seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._connection], [], [], left)[0]:
                raise Failure(WHAT, f"its guest did not answer within {seconds:.0f} s")
            data = self._connection.recv(1 << 16)
            if not data:
                raise Failure(WHAT, "its guest ended")
            self._seen += data
        answer, self._seen = self._seen.split(wanted, 1)
        return answer.decode(errors="replace") + text
