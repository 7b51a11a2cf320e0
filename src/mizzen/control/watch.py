"""Notice errors and act on them: record each, tell of it, and enter its machine if asked."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace

from mizzen.host.paths import Folders
from mizzen.incidents.rules import rules
from mizzen.incidents.watcher import Seen, Watcher
from mizzen.model.errors import Failure
from mizzen.store.database import connect

from .incidents import target
from .settings import Settings


def watch(
    folders: Folders,
    settings: Settings,
    *,
    unit: str | None,
    on_seen: Callable[[Seen], None],
    on_failure: Callable[[Failure], None],
    enter: Callable[[str], int] | None = None,
) -> None:
    """Notice errors until interrupted; call on_seen with each once it is recorded.

    unit: a systemd unit whose journal is followed besides the machines.
    enter: opens a shell in what it is given (a machine's name or "pid:N") and returns when that
        is left. Called for an error that was never seen before, from this very thread, which
        owns the terminal. Errors noticed meanwhile are recorded and told afterwards, and open
        no shell.
    on_failure: called when a guest could not be entered; watching goes on.
    """
    judge = rules(settings.errors.levels, settings.errors.match, settings.errors.ignore)
    box = _Mailbox()

    async def follow() -> None:
        with contextlib.closing(connect(folders.database)) as connection:
            await Watcher(folders, connection, judge, box.put).run(unit)

    with _background(follow, box):
        while True:
            entered = False
            for seen in box.take():
                on_seen(seen)
                if enter is None or entered or not seen.new:
                    continue
                try:
                    enter(target(folders, seen.incident))
                    entered = True
                except Failure as failure:
                    on_failure(failure)
            for missed in box.take(wait=False) if entered else ():
                on_seen(missed)


class _Mailbox:
    """What was seen and not yet told: of one incident only the newest, so it cannot run over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: dict[int, Seen] = {}
        self._failure: BaseException | None = None

    def put(self, seen: Seen) -> None:
        with self._changed:
            before = self._seen.pop(seen.incident.id, None)
            new = seen.new or (before is not None and before.new)
            self._seen[seen.incident.id] = replace(seen, new=new)
            self._changed.notify()

    def fail(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify()

    def take(self, *, wait: bool = True) -> list[Seen]:
        """Return what was put since; raise what the watcher failed of once all else is taken."""
        with self._changed:
            while wait and not self._seen and self._failure is None:
                self._changed.wait()
            seen = list(self._seen.values())
            self._seen.clear()
            if not seen and self._failure is not None:
                raise self._failure
        return seen


@contextlib.contextmanager
def _background(work: Callable[[], Coroutine[None, None, None]], box: _Mailbox) -> Iterator[None]:
    """Run the work in a thread of its own while the block runs, then cancel it."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def main() -> None:
        task = asyncio.create_task(work())
        started.set_result((asyncio.get_running_loop(), task))
        try:
            await task
        except asyncio.CancelledError:
            pass
        except BaseException as failure:
            box.fail(failure)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="watch")
    thread.start()
    loop, task = started.result()
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself, its loop is closed
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
