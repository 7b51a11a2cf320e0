"""Which machines there are: the database, made to agree with the processes that live.

A machine's record is written before its VMM is spawned, and again once its process is known. So
whenever a command is killed, the next one that looks finds every machine: a process that runs, an
end that nobody saw, or a start that nobody finished, whose VMM it kills.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from dataclasses import replace

from mizzen.host import process
from mizzen.host.files import explained
from mizzen.host.paths import Folders
from mizzen.host.process import ProcessId
from mizzen.model.errors import Failure
from mizzen.model.machine import Machine, MachineSpec, MachineState
from mizzen.store import machines as store
from mizzen.store.database import transaction

from .checks import check
from .control import command
from .files import MachineFiles
from .outcome import ended_at, judge
from .protocol import Connect, Driver

ENDED = (MachineState.STOPPED, MachineState.FAILED)

EXIT_SLACK = 5
"""Seconds beyond the grace that init has to kill what is left and power off."""


class Registry:
    """The machines of one state directory."""

    def __init__(self, folders: Folders, connection: sqlite3.Connection) -> None:
        self._folders = folders
        self._connection = connection

    def files(self, name: str) -> MachineFiles:
        """Return where a machine's files are."""
        return MachineFiles.of(self._folders, name)

    async def start(
        self,
        spec: MachineSpec,
        driver: Driver,
        connect: Connect | None = None,
        before: Machine | None = None,
    ) -> Machine:
        """Start a machine and return it running: its kernel boots, its function comes later.

        A machine that fails before that leaves nothing; one that fails later stays as FAILED
        until it is removed. connect: of a spec that has a network; called once the name is this
        machine's, since the link of a machine that runs would be taken from it.
        before: one of that name which has ended, and gives its place up; what is known of it
        stays if this one does not start, its logs do not. Raises Failure.
        """
        check(spec)
        me = os.getpid()
        claim = Machine(
            spec, MachineState.STARTING, me, process.start_time(me), created=time.time()
        )
        self._claim(claim, before)
        files = self.files(spec.name)
        try:
            with explained(f"cannot start machine {spec.name}"):
                files.make()
            async with contextlib.AsyncExitStack() as stack:
                interface = None
                if connect is not None:
                    made = await stack.enter_async_context(connect())
                    claim = replace(claim, spec=replace(spec, network=made.network))
                    store.save(self._connection, claim)
                    interface = made.interface
                return await self._spawn(claim, driver, interface)
        except BaseException:
            files.remove()
            if before is not None:
                store.save(self._connection, before)
            else:
                store.remove(self._connection, spec.name)
            raise

    async def _spawn(self, claim: Machine, driver: Driver, interface: int | None) -> Machine:
        running = await driver.start(claim.spec, self.files(claim.spec.name), interface)
        machine = replace(
            claim,
            state=MachineState.RUNNING,
            pid=running.process.pid,
            pid_start=running.process.start,
            ports=running.ports,
        )
        try:
            store.save(self._connection, machine)
        except BaseException:
            process.kill(running.process, signal.SIGKILL)
            raise
        return machine

    def everything(self) -> list[Machine]:
        """Return all machines, by name."""
        return [self._reconciled(machine) for machine in store.everything(self._connection)]

    def find(self, name: str) -> Machine:
        """Return a machine. Raises Failure if none has that name."""
        machine = self.look(name)
        if machine is None:
            raise Failure(
                f"cannot find machine {name}", "there is none", "see: mizzen machines list"
            )
        return machine

    def look(self, name: str) -> Machine | None:
        """Return a machine, None if none has that name."""
        machine = store.find(self._connection, name)
        return self._reconciled(machine) if machine is not None else None

    def alive(self, name: str) -> bool:
        """Whether that machine exists and has not ended."""
        machine = self.look(name)
        return machine is not None and machine.state not in ENDED

    async def ended(self, name: str, seconds: float | None = None) -> Machine:
        """Wait until a machine has ended, ``seconds`` at most, and return it as it is then."""
        machine = self.find(name)
        if machine.state not in ENDED:
            await process.ended(ProcessId(machine.pid, machine.pid_start), seconds)
        return self.find(name)

    async def stop(self, name: str, grace: float) -> Machine:
        """Ask a machine's function to end; end the machine if it has not after ``grace`` seconds.

        A unikernel is ended at once: there is no way to ask it. Raises Failure if it has ended
        already.
        """
        machine = self.find(name)
        if machine.state in ENDED:
            raise Failure(
                f"cannot stop machine {name}",
                f"it has ended: {machine.reason}",
                f"remove it with: mizzen machines remove {name}",
            )
        if machine.state is MachineState.STARTING:
            raise Failure(f"cannot stop machine {name}", "it is being started", "try again")
        vmm = ProcessId(machine.pid, machine.pid_start)
        if not machine.spec.unikernel:
            answer = await command(self.files(name), f"stop {round(grace)}", max(grace, 1))
            patience = grace + EXIT_SLACK if answer == "ok" else 1
            if await process.ended(vmm, patience):
                return self.find(name)
        process.kill(vmm, signal.SIGKILL)
        await process.ended(vmm)
        reason = "stopped, as a unikernel is" if machine.spec.unikernel else "stopped by force"
        stopped = replace(machine, state=MachineState.STOPPED, ended=time.time(), reason=reason)
        return self._settle(machine, stopped)

    def remove(self, name: str) -> None:
        """Forget a machine that has ended, and its logs. Raises Failure if it has not."""
        machine = self.find(name)
        if machine.state not in ENDED:
            raise Failure(
                f"cannot remove machine {name}",
                "it runs",
                f"stop it first: mizzen machines stop {name}",
            )
        self.files(name).remove()
        store.remove(self._connection, name)

    def _claim(self, claim: Machine, before: Machine | None) -> None:
        name = claim.spec.name
        with transaction(self._connection):
            known = store.find(self._connection, name)
            if known is None or (known == before and known.state in ENDED):
                store.save(self._connection, claim)
                return
        if self._reconciled(known).state in ENDED:
            why, fix = "one of that name has ended", f"mizzen machines remove {name}"
        else:
            why, fix = "one of that name runs", f"mizzen machines stop {name}"
        raise Failure(f"cannot start machine {name}", why, f"choose another, or: {fix}")

    def _reconciled(self, machine: Machine) -> Machine:
        """Return a machine as it is now, with its record set right."""
        if machine.state in ENDED or ProcessId(machine.pid, machine.pid_start).alive:
            return machine
        files = self.files(machine.spec.name)
        if machine.state is MachineState.STARTING:
            # From before it execs until it ends, its VMM holds this file.
            for orphan in process.holders(files.vmm):
                process.kill(orphan, signal.SIGKILL)
            reason = "the command that started it was killed"
            now = replace(machine, state=MachineState.FAILED, ended=time.time(), reason=reason)
        else:
            process.reap(machine.pid)
            outcome = judge(files, unikernel=machine.spec.unikernel)
            now = replace(
                machine,
                state=outcome.state,
                status=outcome.status,
                reason=outcome.reason,
                ended=ended_at(files, time.time()),
            )
        return self._settle(machine, now)

    def _settle(self, before: Machine, after: Machine) -> Machine:
        """Write a machine's end, unless another process changed its record meanwhile."""
        name = before.spec.name
        with transaction(self._connection):
            known = store.find(self._connection, name)
            if known == before:
                store.save(self._connection, after)
                self.files(name).remove_sockets()
                return after
        return known if known is not None else after
