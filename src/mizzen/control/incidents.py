"""Incidents as a user asks for them: all, one, and the guest that one happened in."""

from __future__ import annotations

from contextlib import closing

from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId, find_by_identity
from mizzen.model.errors import Failure
from mizzen.model.incident import Incident
from mizzen.store import incidents, machines
from mizzen.store.database import connect


def all_incidents(folders: Folders, source: str | None = None) -> list[Incident]:
    """Return incidents, of one source or all, the one seen last first."""
    with closing(connect(folders.database)) as connection:
        found = incidents.everything(connection)
    return [one for one in found if source is None or one.source == source]


def incident(folders: Folders, number: int) -> Incident:
    """Return the incident of that id.

    Raises Failure if there is none.
    """
    with closing(connect(folders.database)) as connection:
        found = incidents.find(connection, number) if number < 1 << 63 else None
    if found is None:
        raise Failure(
            f"cannot find incident {number}", "there is none", "see: mizzen incidents list"
        )
    return found


def target(folders: Folders, of: Incident) -> str:
    """Return what to attach to, to be where the incident happened: a machine's name or "pid:N".

    Raises Failure if that guest runs no more, or cannot be told from others.
    """
    what = f"cannot enter incident {of.id}"
    kind, _, name = of.source.rpartition(" ")
    if kind == "unit":
        raise Failure(what, f"the unit {name} wrote it, and named no VM", "name one: mizzen attach")
    if kind == "vm":
        return f"pid:{_hypervisor(what, name).pid}"
    with closing(connect(folders.database)) as connection:
        machine = machines.find(connection, of.source)
    if machine is None:
        raise Failure(what, f"the machine {of.source} is gone")
    if not ProcessId(machine.pid, machine.pid_start).alive:
        raise Failure(what, f"the machine {of.source} has ended", f"mizzen incidents show {of.id}")
    return of.source


def _hypervisor(what: str, vm_id: str) -> ProcessId:
    found = find_by_identity(vm_id)
    if not found:
        raise Failure(what, f"no process was started with the id {vm_id}", "it may have ended")
    if len(found) > 1:
        pids = ", ".join(str(one.pid) for one in found)
        raise Failure(
            what,
            f"several processes have the id {vm_id}: {pids}",
            "choose one: mizzen attach pid:N",
        )
    return found[0]
