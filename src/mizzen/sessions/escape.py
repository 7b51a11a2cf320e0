"""The way out of a session that no longer answers: ``~.`` at the start of a line, as in ssh."""

from __future__ import annotations

from dataclasses import dataclass

MARK = ord("~")
LEAVE = ord(".")
LINE_ENDS = frozenset(b"\r\n\x03\x04")


@dataclass(slots=True)
class Escape:
    """Watches what is typed. ``left`` is set once the user wants out."""

    left: bool = False
    _at_start: bool = True
    _marked: bool = False

    def filter(self, typed: bytes) -> bytes:
        """Return what goes to the guest: all but a mark that may begin an escape.

        ``~~`` at the start of a line sends one ``~``.
        """
        passed = bytearray()
        for byte in typed:
            if self.left:
                break
            if self._marked:
                self._marked = False
                if byte == LEAVE:
                    self.left = True
                    break
                if byte != MARK:
                    passed.append(MARK)
            elif self._at_start and byte == MARK:
                self._marked = True
                continue
            passed.append(byte)
            self._at_start = byte in LINE_ENDS
        return bytes(passed)
