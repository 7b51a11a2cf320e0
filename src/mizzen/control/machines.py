"""Starting machines from what the user names, and all that is asked about them later."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mizzen.builders import image, kernel
from mizzen.host.paths import Folders
from mizzen.machines.checks import check_size
from mizzen.machines.protocol import Connect, Driver
from mizzen.machines.qemu import accel
from mizzen.machines.qemu.driver import QemuDriver
from mizzen.machines.registry import ENDED, Registry
from mizzen.model.errors import UsageError
from mizzen.model.machine import (
    Accel,
    Machine,
    MachineNetwork,
    MachineSpec,
    Port,
    check_name,
)
from mizzen.model.network import Transport
from mizzen.model.progress import Progress, Report
from mizzen.network.client import Network
from mizzen.store import database

from . import links


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asks for; the fields are those of MachineSpec where they share a name.

    source: a folder with a Dockerfile, or an OCI reference.
    name: None makes one of the source's. kernel: a file; None takes Debian's.
    accel: None takes what works here.
    prefixes: where its addresses are leased from, one of a family at most; its ports are then
        published by the network daemon. Without any it has QEMU's user networking and ``publish``.
    label: of its link (``model.network.Link``).
    outward: whether it may begin conversations; None is yes with a link, no without.
    """

    source: str
    name: str | None = None
    memory: int = 256
    vcpus: int = 1
    kernel: Path | None = None
    accel: Accel | None = None
    publish: tuple[Port, ...] = ()
    command_line: str = ""
    prefixes: tuple[str, ...] = ()
    label: str = ""
    outward: bool | None = None


@contextlib.contextmanager
def registry(folders: Folders) -> Iterator[Registry]:
    """Yield the machines of these folders."""
    with contextlib.closing(database.connect(folders.database)) as connection:
        yield Registry(folders, connection)


async def start(wish: Wish, folders: Folders, report: Report, network: Network) -> Machine:
    """Build what a source needs and start a machine of it; return it running.

    Its kernel boots then; what the function does shows in its log. network: asked for a link if
    the wish has prefixes. Raises Failure.
    """
    name = check_name(wish.name) if wish.name else name_for(wish.source)
    # Before a build that takes minutes.
    await _check_network(name, wish, network)
    check_size(name, wish.memory, wish.vcpus, wish.publish, outward=bool(wish.outward))
    chosen = kernel.user_kernel(wish.kernel) if wish.kernel else None
    built = await image.build(wish.source, kernel=chosen, folders=folders, report=report)
    with contextlib.closing(database.connect(folders.database)) as connection:
        spec = MachineSpec(
            name=name,
            reference=built.reference,
            kernel=built.kernel.path,
            initramfs=built.initramfs,
            root=built.root,
            process=built.process,
            memory=wish.memory,
            vcpus=wish.vcpus,
            accel=await accel.choose(wish.accel, built.kernel, connection, report),
            command_line=wish.command_line,
            publish=wish.publish,
            network=_wanted_network(wish),
            outward=bool(wish.outward) and not wish.prefixes,
        )
        connect = None
        if spec.network is not None:
            connect = partial(links.connected, network, spec.name, spec.network)
        return await launch(spec, Registry(folders, connection), report, connect)


async def start_again(
    spec: MachineSpec, name: str, folders: Folders, report: Report, network: Network
) -> Machine:
    """Start a machine like one that was, under another name, without building anything.

    Raises Failure, also if a file that it boots has gone.
    """
    wired = spec.network.unlinked() if spec.network is not None else None
    connect = partial(links.connected, network, name, wired) if wired is not None else None
    with registry(folders) as machines:
        again = replace(spec, name=check_name(name), network=wired)
        return await launch(again, machines, report, connect)


async def remove(name: str, folders: Folders, network: Network) -> None:
    """Forget a machine that has ended: its logs, its link, its addresses.

    Raises Failure, and forgets nothing, if its addresses cannot be released.
    """
    with registry(folders) as machines:
        machine = machines.find(name)
        if machine.spec.network is not None and machine.state in ENDED:
            await links.disconnect(network, name)
        machines.remove(name)


def _wanted_network(wish: Wish) -> MachineNetwork | None:
    if not wish.prefixes:
        return None
    return MachineNetwork(wish.prefixes, wish.label, outward=wish.outward is not False)


async def _check_network(name: str, wish: Wish, network: Network) -> None:
    what = f"cannot start machine {name}"
    if not wish.prefixes:
        return
    if wish.publish:
        raise UsageError(
            what,
            "a machine with addresses of its own publishes no ports at 127.0.0.1",
            "leave --publish out, and use: mizzen publish add",
        )
    links.check_prefixes(what, wish.prefixes)
    await links.check_kernel_mode(what, network)


async def launch(
    spec: MachineSpec,
    machines: Registry,
    report: Report,
    connect: Connect | None,
    *,
    driver: Driver | None = None,
    before: Machine | None = None,
) -> Machine:
    """Start a machine and tell so; see ``Registry.start``. driver: None is QEMU's."""
    task = f"Starting machine {spec.name}"
    report(Progress(task))
    machine = await machines.start(spec, driver or QemuDriver(), connect, before)
    report(Progress(task, finished=True))
    return machine


def name_for(source: str) -> str:
    """Return a name for a machine of a source: its last part, and something to tell it apart."""
    last = Path(source).absolute().name if Path(source).is_dir() else source.rpartition("/")[2]
    words = re.sub(r"[^a-z0-9]+", "-", last.partition(":")[0].lower()).strip("-")
    return f"{words[:40].strip('-') or 'machine'}-{secrets.token_hex(2)}"


def parse_publication(text: str) -> Port:
    """Read HOST:GUEST, or GUEST alone for any free host port; of UDP with /udp behind it.

    Raises UsageError.
    """
    found = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp))?", text)
    if not found:
        raise UsageError(
            f"cannot publish {text!r}", "that names no ports", "write HOST:GUEST, as in 8080:80"
        )
    return Port(int(found[1] or 0), int(found[2]), Transport(found[3] or "tcp"))
