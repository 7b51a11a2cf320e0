"""One rollout a service at a time: who does which."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from mizzen.engine.operation import TemporaryFailure
from mizzen.host import process
from mizzen.host.process import ProcessId
from mizzen.model.service import Underway
from mizzen.store import services as store


def claim(connection: sqlite3.Connection, service: str, number: int) -> Underway:
    """Write that this process rolls a release out, inside a transaction.

    Raises TemporaryFailure if somebody rolls out or removes the service already.
    """
    for held in store.underway(connection):
        if held.service == service:
            doing = f"rolls out {service}-{held.number}" if held.number else "removes it"
            raise TemporaryFailure(
                f"cannot change {service}", f"process {held.pid} {doing}", "wait for it to end"
            )
    mine = _mine(Underway(service, number, 0, 0, time.time()))
    store.claim(connection, mine)
    return mine


def alive(held: Underway) -> bool:
    """Whether the process that does a rollout still runs."""
    return ProcessId(held.pid, held.pid_start).alive


def take_over(connection: sqlite3.Connection, held: Underway) -> Underway | None:
    """Go on with a rollout that nobody does; None if somebody does."""
    if alive(held):
        return None
    mine = _mine(held)
    return mine if store.take_over(connection, held, mine) else None


def let_go(connection: sqlite3.Connection, held: Sequence[Underway]) -> None:
    """Leave rollouts of this process to the next command."""
    for one in held:
        store.take_over(connection, one, replace(one, pid=0, pid_start=0))


def _mine(held: Underway) -> Underway:
    me = os.getpid()
    return replace(held, pid=me, pid_start=process.start_time(me))
