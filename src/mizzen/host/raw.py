"""A terminal in raw mode, for as long as somebody else handles its keys."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Hand over every key as it is typed, if this is a terminal; restore it at the end."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        with contextlib.suppress(termios.error):  # it was hung up
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
