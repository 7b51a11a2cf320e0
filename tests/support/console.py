"""A guest's serial console, to look at it without Mizzen."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

ANSWER_SECONDS = 60


@dataclass
class Console:
    """The guest's serial console, at which a shell waits."""

    socket: socket.socket
    _seen: bytes = b""
    _count: int = 0

    def run(self, command: str) -> str:
        """Return what a command prints."""
        self._count += 1
        end = f"@@{self._count}@@"
        self.socket.sendall(f"{command}\necho '@@'{self._count}@@\n".encode())
        answer = self.wait_for(end, ANSWER_SECONDS)
        return answer.replace("\r", "").removesuffix(end).strip()

    def wait_for(self, text: str, seconds: float) -> str:
        """Return everything up to a text."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self._seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} on the console: {self._seen[-2000:]!r}"
            if select.select([self.socket], [], [], left)[0]:
                data = self.socket.recv(65536)
                assert data, f"the guest ended: {self._seen[-2000:]!r}"
                self._seen += data
        at = self._seen.index(text.encode()) + len(text)
        answer, self._seen = self._seen[:at], self._seen[at:]
        return answer.decode(errors="replace")
