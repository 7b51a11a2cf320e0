"""What was built and nothing boots any more: which files they are, and their end."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from mizzen.builders import unused
from mizzen.builders.unused import Built
from mizzen.engine.operation import encode
from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.machine import MachineSpec
from mizzen.store import machines as machine_store
from mizzen.store import services as store

KEPT_FOR = 24 * 3600.0
"""Seconds that a file is kept after it was asked for last: a branch may go back to it."""

GOOD = 5
"""Releases of a service, counted back from the newest, that can be rolled back to unbuilt."""

_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")


def booted(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the digests of files that machines boot, or would after a rollback."""
    specs: list[MachineSpec] = [one.spec for one in machine_store.everything(connection)]
    for service in store.everything(connection):
        live = [one for one in store.releases(connection, service.name) if one.live_since]
        specs += [one.spec for one in live[-GOOD:] if one.spec is not None]
    files = (path for spec in specs for path in (spec.kernel, spec.initramfs, spec.root))
    return frozenset(path.name for path in files if path is not None)


def named(values: Iterable[object]) -> frozenset[str]:
    """Return the digests that values name, such as steps' and the inputs of what they want."""
    texts = (msgspec.json.encode(value, enc_hook=encode) for value in values)
    return frozenset(found.decode() for text in texts for found in _DIGEST.findall(text))


def left_over(
    built: Iterable[Built], needed: frozenset[str], now: float
) -> Sequence[tuple[Built, str]]:
    """Return what may go, each with why: pure. needed: digests."""
    return [
        (one, f"nothing has asked for it in {(now - one.used) / 3600:.0f} h, {one.size >> 20} MiB")
        for one in built
        if one.digest not in needed and now - one.used >= KEPT_FOR
    ]


async def dispose(
    folders: Folders, needed: Callable[[], frozenset[str]], now: float
) -> AsyncIterator[tuple[Built, bool, str]]:
    """Remove what may go, and its images; yield each, whether it went, and why or why not.

    needed: asked again for each, since what is wanted changes meanwhile.
    """
    for one, why in left_over(unused.everything(folders), needed(), now):
        if one.digest not in needed():
            try:
                unused.remove(one, folders)
            except Failure as failure:
                yield one, False, failure.why
            else:
                yield one, True, why
    with contextlib.suppress(Failure):  # the next time will do
        await unused.sweep(folders)
